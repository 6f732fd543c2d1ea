"""What the model has before it: brings the cache to the end of given ids, and goes on token by token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.card import Array
from models.llm.decode import STEP_LIMIT_S
from models.llm.network import Network
from models.llm.prefill import Chunk, plan
from tasks.engines import Signals, Verdict

REPLAY_LIMIT_S = 10.0
"""How long repeating the steps of a lost attempt may take before chunks are taken instead."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The logits of what follows, and how many of the prompt's tokens were in the cache already."""

    logits: Array
    cached_tokens: int


class Context:
    """The tokens of one conversation at a time, and their rows on the card.

    What an earlier attempt has told goes through single steps, as it did the first time. Only when that would
    take longer than ``REPLAY_LIMIT_S`` do those tokens go by chunks too. A chunk's products are summed in
    another order than a single row's, so the last bits of the cache, and once in a while a token, may then
    differ from what an undisturbed run had said.

    Logits are in memory that the next call overwrites. Every call into the card is announced to ``signals``.
    """

    def __init__(self, network: Network, step_s: float) -> None:
        self._network = network
        self._step_s = step_s
        self._ids: list[int] = []

    def bring(self, prompt: Sequence[int], told: Sequence[int], signals: Signals) -> Ready | Verdict:
        """Bring the cache to the end of ``prompt`` and of what was ``told`` after it.

        A verdict other than ``GO_ON`` ends it between two pieces and is returned.
        """
        self._ids = [*prompt, *told]
        *others, last = self._chunks(len(prompt), len(self._ids))
        for chunk in others:
            self._store(chunk, signals)
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                return verdict
        with signals.calling_card(STEP_LIMIT_S):
            if last.group is None:
                logits = self._network.decoder.forward(self._ids[last.start], last.start)
            else:
                row = self._network.prefill.run(self._ids[last.start :], last.start, last.group)
                logits = self._network.decoder.logits_of(row)
        return Ready(logits, cached_tokens=0)

    def step(self, token: int, signals: Signals) -> Array:
        """Append ``token``; the logits of what follows it."""
        began_s = time.monotonic()
        with signals.calling_card(STEP_LIMIT_S):
            logits = self._network.decoder.forward(token, len(self._ids))
        self._ids.append(token)
        self._step_s = time.monotonic() - began_s
        return logits

    def _chunks(self, prompt: int, end: int) -> list[Chunk]:
        """The pieces in which ``prompt`` tokens, and what was told after them, go through the card."""
        groups = self._network.prefill.groups
        chunks = list(plan(groups, 0, prompt))
        if (end - prompt) * self._step_s > REPLAY_LIMIT_S:
            return [*chunks, *plan(groups, prompt, end)]
        return [*chunks, *plan((), prompt, end)]

    def _store(self, chunk: Chunk, signals: Signals) -> None:
        with signals.calling_card(STEP_LIMIT_S):
            if chunk.group is None:
                self._network.decoder.remember(self._ids[chunk.start], chunk.start)
            else:
                tokens = self._ids[chunk.start : chunk.start + chunk.count]
                self._network.prefill.run(tokens, chunk.start, chunk.group)
