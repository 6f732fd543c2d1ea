"""What every request of one API process shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request
from redis.asyncio import Redis

from api.board import Board
from api.closing import Closing
from api.packages.pulls import Pulls
from api.webhooks.courier import Courier
from config.settings import Settings
from config.version import VERSION as VERSION
from tasks.artifacts import ArtifactStore
from tasks.journal import Journals


@dataclass(slots=True)
class Context:
    settings: Settings
    redis: Redis
    journals: Journals
    board: Board
    files: ArtifactStore
    courier: Courier
    closing: Closing = field(default_factory=Closing)
    pulls: Pulls = field(default_factory=Pulls)


def of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context
