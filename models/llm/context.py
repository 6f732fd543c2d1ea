"""What the model has before it: brings the cache to the end of given ids, and goes on token by token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.card import Array
from models.llm.cache import ConversationCache
from models.llm.decode import STEP_LIMIT_S
from models.llm.network import Network
from models.llm.plan import Chunk, MeasuredCosts, plan
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

    Rows that the cache has are not computed again, whatever their number. What an earlier attempt has told
    goes through single steps, as it did the first time; only when that would take longer than
    ``REPLAY_LIMIT_S`` do those tokens go by chunks too. Where the graphs give a row the same bits however it
    is computed (docs/adr/0008) none of this can be seen in an answer; elsewhere the last bits of the cache,
    and once in a while a token, may depend on what the cache held.

    Logits are in memory that the next call overwrites. Every call into the card is announced to ``signals``.
    """

    def __init__(self, network: Network, cache: ConversationCache, costs: MeasuredCosts) -> None:
        self._network = network
        self._ids: list[int] = []
        self.cache = cache
        self.costs = costs

    def bring(self, prompt: Sequence[int], told: Sequence[int], signals: Signals) -> Ready | Verdict:
        """Bring the cache to the end of ``prompt`` and of what was ``told`` after it.

        A verdict other than ``GO_ON`` ends it between two pieces and is returned.
        """
        ids = self._ids = [*prompt, *told]
        with signals.calling_card(STEP_LIMIT_S):
            kept = self.cache.open(ids, len(prompt))
        *others, last = self._chunks(kept, len(prompt), len(ids))
        for chunk in others:
            self._run(chunk, signals, wants_logits=False)
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                return verdict
        logits = self._run(last, signals, wants_logits=True)
        assert logits is not None
        return Ready(logits, cached_tokens=min(kept, len(prompt)))

    def step(self, token: int, signals: Signals) -> Array:
        """Append ``token``; the logits of what follows it."""
        self._ids.append(token)
        logits = self._run(Chunk(len(self._ids) - 1, 1, None), signals, wants_logits=True)
        assert logits is not None
        return logits

    def _chunks(self, start: int, prompt: int, end: int) -> list[Chunk]:
        """The pieces in which tokens from ``start`` on go through the card."""
        groups = self._network.prefill_groups
        if max(0, end - max(prompt, start)) * self.costs.step_s() > REPLAY_LIMIT_S:
            return plan(groups, start, end, self.costs)
        chunks = plan(groups, start, prompt, self.costs) if start < prompt else []
        return [*chunks, *(Chunk(at, 1, None) for at in range(max(start, prompt), end))]

    def _run(self, chunk: Chunk, signals: Signals, *, wants_logits: bool) -> Array | None:
        """Compute the piece, whose rows follow those believed so far; only then are they believed as well."""
        tokens = self._ids[chunk.start : chunk.start + chunk.count]
        began_s = time.monotonic()
        assert self.cache.length == chunk.start
        with signals.calling_card(STEP_LIMIT_S):
            logits = self._compute(chunk, tokens, wants_logits=wants_logits)
        self.cache.wrote(tokens)
        self.costs.took(chunk.group, time.monotonic() - began_s)
        return logits

    def _compute(self, chunk: Chunk, tokens: Sequence[int], *, wants_logits: bool) -> Array | None:
        decoder = self._network.decoder
        if chunk.group is None:
            if wants_logits:
                return decoder.forward(tokens[0], chunk.start)
            decoder.remember(tokens[0], chunk.start)
            return None
        row = self._network.prefill.run(tokens, chunk.start, chunk.group)
        return decoder.logits_of(row) if wants_logits else None
