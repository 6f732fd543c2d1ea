"""Faults found in chat's words, told in those of Responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from api.errors import Refusal
from tasks.errors import JobError

FIXED = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "tool_choice.function": "tool_choice",
    "tools[].function": "tools[]",
    "verbosity": "text.verbosity",
}
"""Chat's names of what Responses call something else."""


@contextmanager
def told_as(names: Mapping[str, str]) -> Iterator[None]:
    """Within, a fault of a field of ``names``, or of something below one, is told by its other name."""
    try:
        yield
    except Refusal as refusal:
        problem = refusal.problem
        param = renamed(problem.param, names)
        message = problem.message.replace(f"'{problem.param}'", f"'{param}'")
        raise Refusal(problem.code, message, param) from None
    except JobError as error:
        error.param = renamed(error.param, names)
        raise


def renamed(path: str | None, names: Mapping[str, str]) -> str | None:
    """``path`` with its longest known beginning replaced."""
    if path is None:
        return None
    for end in range(len(path), 0, -1):
        if end < len(path) and path[end] not in ".[":
            continue
        if path[:end] in names:
            return names[path[:end]] + path[end:]
    return path
