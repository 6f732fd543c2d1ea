"""All routes of this dialect."""

from __future__ import annotations

from fastapi import APIRouter

from api.a1111 import generate, lists, options, png, progress, residency

router = APIRouter()
for _part in (generate, progress, options, lists, png, residency):
    router.include_router(_part.router)
