"""What the command line says when it cannot do what was asked: one line, and an exit status."""

from __future__ import annotations


class CliError(Exception):
    """Shown as ``hearth: <message>``; the message says what is wrong and what to do about it."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
