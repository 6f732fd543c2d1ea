"""Tokens that are given to an answer instead of being chosen."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from models.llm.reply import Reply


class Guide:
    """How a required call begins, and the end of thoughts that have used up their budget.

    What it gives depends on the reply so far and on what it gave before, so an attempt that asks it once per
    token of an earlier one is where that was.
    """

    def __init__(self, beginning: Sequence[int], closing: Sequence[int], budget_tokens: int | None) -> None:
        """``closing`` leaves the thoughts; ``budget_tokens`` None: they may take as long as they like."""
        self._given = deque(beginning)
        self._closing = closing
        self._budget_tokens = budget_tokens

    def next(self, reply: Reply) -> int | None:
        """The token that comes next, or None when the model is to choose. To be asked once per token."""
        budget = self._budget_tokens
        if budget is not None and not self._given and reply.is_thinking and reply.reasoning_tokens >= budget:
            self._given.extend(self._closing)
            self._budget_tokens = None
        return self._given.popleft() if self._given else None
