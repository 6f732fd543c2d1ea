"""``service_tier``: which class of jobs a request asks for, and which one it was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from tasks.jobs import JobClass

Tier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
TierGiven = Literal["default", "flex", "priority"]

_CLASSES: dict[str | None, JobClass] = {
    "flex": JobClass.BATCH,
    "priority": JobClass.PRIORITY,
    "fast": JobClass.PRIORITY,
}
"""Every other tier is the class ``chat``."""


class HasTier(Protocol):
    @property
    def service_tier(self) -> str | None: ...


def job_class(request: HasTier, *, may_go_ahead: bool = False) -> JobClass:
    """The class that is given to ``request``; who may not go ahead waits with the others."""
    wanted = _CLASSES.get(request.service_tier, JobClass.CHAT)
    return JobClass.CHAT if wanted is JobClass.PRIORITY and not may_go_ahead else wanted


def tier_of(given: JobClass) -> TierGiven:
    """What an answer says of the class it was given."""
    if given is JobClass.PRIORITY:
        return "priority"
    return "flex" if given is JobClass.BATCH else "default"


def tier_warnings(request: HasTier, given: JobClass) -> Iterator[str]:
    """A sentence where a tier was asked for that means something else than what is given."""
    asked = request.service_tier
    if asked is None or asked in ("auto", "default"):
        return
    if asked == "scale" or _CLASSES.get(asked) is not given:
        yield f"service_tier {asked} is served as {tier_of(given)}"
