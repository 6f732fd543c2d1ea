"""What the command line says when it cannot do what was asked: one line, and an exit status."""

from __future__ import annotations

FAILED, USAGE, UNREACHABLE, JOB_FAILED = 1, 2, 3, 4
"""Exit statuses. 130 besides: interrupted by Ctrl-C, which also cancels the job that was waited for."""


class CliError(Exception):
    """Shown as ``hearth: <message>``; the message says what is wrong and what to do about it."""

    def __init__(self, message: str, *, status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
