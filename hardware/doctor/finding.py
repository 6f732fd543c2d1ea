"""One line of the doctor's: what was looked at, how it is, and what would mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    """It serves, but not as well as it could, or not for long."""
    FAIL = "fail"
    """It cannot serve."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``fix`` is one command, or one thing to do, that mends it; nothing needs mending where it is None."""

    subject: str
    status: Status
    told: str
    fix: str | None = None


def well(subject: str, told: str) -> Finding:
    return Finding(subject, Status.PASS, told)


def warn(subject: str, told: str, fix: str) -> Finding:
    return Finding(subject, Status.WARN, told, fix)


def fail(subject: str, told: str, fix: str) -> Finding:
    return Finding(subject, Status.FAIL, told, fix)
