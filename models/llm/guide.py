"""Tokens that are given to an answer instead of being chosen."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from models.llm.reply import Reply


class Guide:
    """How a required call begins, and the end of thoughts: their budget is used up, or they end the turn.

    What it gives depends on the reply so far and on what it gave before, so an attempt that asks it once per
    token of an earlier one is where that was.
    """

    def __init__(
        self,
        beginning: Sequence[int],
        closing: Sequence[int],
        budget_tokens: int | None,
        mark: Sequence[int] = (),
    ) -> None:
        """``closing`` leaves the thoughts; ``budget_tokens`` None: they may take as long as they like.

        ``mark`` is the mark that ends them, alone.
        """
        self._given = deque(beginning)
        self._closing = closing
        self._mark = mark
        self._budget_tokens = budget_tokens

    def next(self, reply: Reply) -> int | None:
        """The token that comes next, or None when the model is to choose. To be asked once per token."""
        if not self._given and self._is_used_up(reply):
            self._given.extend(self._closing)
            self._budget_tokens = None
        return self._given.popleft() if self._given else None

    def leave_thoughts(self) -> int:
        """The first token of the mark that ends thoughts, given now; the others follow.

        The mark is told whole or not at all (``Reply``), so no attempt goes on within it.
        """
        self._given.extend(self._mark)
        return self._given.popleft()

    def _is_used_up(self, reply: Reply) -> bool:
        """A mark that has begun is left alone: whoever goes on behind it does not know why it came."""
        budget = self._budget_tokens
        if budget is None or not reply.is_thinking or reply.reasoning_tokens < budget:
            return False
        return not reply.is_leaving_thoughts
