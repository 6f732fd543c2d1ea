"""An embedding model on a card: texts in, one vector of unit length for each."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hardware.card import Array, Graph
from models.boundary import card_errors
from models.embedding.geometry import EncoderGeometry, EncoderGroup
from models.embedding.package import EmbeddingPackage
from models.embedding.pooling import pool, unit
from models.embedding.tokens import TextTokenizer
from models.farewell import farewell
from tasks.engines import Signals, Verdict
from tasks.errors import ContextTooLong, InvalidJob, Unsupported
from tasks.events import Embedded, Event, Finished, Timings, Usage
from tasks.jobs import EmbedJob, FinishReason, Text

CALL_LIMIT_S = 30.0
"""A text takes milliseconds; a graph that has not answered after this long never will."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """One input as ids. ``skip``: ids of a prompt that has no part in the vector."""

    ids: list[int]
    skip: int
    is_cut: bool


class EmbeddingEngine:
    """One loaded model. Works on one job at a time, on the thread that owns the card.

    A vector is a function of package, text, prompt and dimensions: a text does not see the others of its job.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        geometry: EncoderGeometry,
        package: EmbeddingPackage,
        tokenizer: TextTokenizer,
        size_bytes: int,
    ) -> None:
        self._name = name
        self._graph = graph
        self._geometry = geometry
        self._package = package
        self._tokenizer = tokenizer
        self._size_bytes = size_bytes
        self._context = min(geometry.context, package.most_tokens or geometry.context)

    @property
    def context(self) -> int | None:
        """The most tokens of one text, marks and prompt included."""
        return self._context

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def trim(self) -> int:
        """There is nothing that only saves time."""
        return 0

    def close(self) -> None:
        """Give everything back. Closing twice is harmless."""
        self._graph.close()

    def embed(self, job: EmbedJob, emitted: Sequence[Embedded], signals: Signals) -> Iterator[Event]:
        """See ``tasks.engines.EmbedEngine``. What cannot be honoured is refused before any card work."""
        began_s = time.monotonic()
        self._check_dimensions(job)
        texts = [self._ready(index, text, job) for index, text in enumerate(job.inputs)]
        text_ms = (time.monotonic() - began_s) * 1000
        for index in range(len(emitted), len(texts)):
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                yield from farewell(verdict)
                return
            yield Embedded(index, self._vector(texts[index], job, signals), len(texts[index].ids))
        total_ms = (time.monotonic() - began_s) * 1000
        yield Finished(
            FinishReason.STOP,
            Usage(sum(len(text.ids) for text in texts), 0),
            Timings(text_ms=text_ms, prefill_ms=total_ms - text_ms),
            warnings=tuple(self._cut_warnings(texts)),
        )

    def _vector(self, text: _Ready, job: EmbedJob, signals: Signals) -> str:
        group = self._geometry.group_for(len(text.ids))
        with card_errors(), signals.calling_card(CALL_LIMIT_S):
            made = self._graph.run(self._feeds(group, text.ids), group=group.index, timeout_s=CALL_LIMIT_S)
        rows = made[group.rows.name][0]
        pooled = pool(rows, len(text.ids), self._package.pooling, skip=text.skip)
        return b64encode(unit(pooled, job.dimensions).astype("<f4").tobytes()).decode()

    def _feeds(self, group: EncoderGroup, ids: Sequence[int]) -> dict[str, Array]:
        filled = np.full(group.ids.shape, self._tokenizer.pad, group.ids.numpy_dtype)
        filled[0, : len(ids)] = ids
        feeds: dict[str, Array] = {group.ids.name: filled}
        if group.mask is not None:
            mask = np.zeros(group.mask.shape, group.mask.numpy_dtype)
            mask[0, : len(ids)] = 1
            feeds[group.mask.name] = mask
        if group.types is not None:
            feeds[group.types.name] = np.zeros(group.types.shape, group.types.numpy_dtype)
        return feeds

    def _ready(self, index: int, text: Text, job: EmbedJob) -> _Ready:
        """Raises ContextTooLong, Unsupported, InvalidJob."""
        if not isinstance(text, str):
            return self._ready_ids(index, list(text), job)
        prompt = self._prompt(job)
        ids = self._tokenizer.ids(prompt + text)
        skip = self._tokenizer.prompt_length(prompt) if prompt and not self._package.pools_prompt else 0
        if len(ids) <= self._context:
            return _Ready(ids, skip, is_cut=False)
        self._refuse_unless_cut(index, len(ids), job)
        return _Ready(self._tokenizer.cut(prompt + text, self._context), skip, is_cut=True)

    def _ready_ids(self, index: int, ids: list[int], job: EmbedJob) -> _Ready:
        strange = self._tokenizer.strange(ids)
        if strange is not None:
            raise InvalidJob(
                f"input {index} holds the token id {strange}, and {self._name} knows {self._tokenizer.size}: "
                "they were made by another model's tokenizer; send texts",
                param=f"input[{index}]",
            )
        if len(ids) > self._context:
            self._refuse_unless_cut(index, len(ids), job)
        return _Ready(ids[: self._context], 0, is_cut=len(ids) > self._context)

    def _prompt(self, job: EmbedJob) -> str:
        name = job.prompt_name or self._package.default_prompt
        if name is None:
            return ""
        if name not in self._package.prompts:
            raise Unsupported(f"{self._name} has no prompt {name!r}", param="prompt_name")
        return self._package.prompts[name]

    def _check_dimensions(self, job: EmbedJob) -> None:
        if job.dimensions is not None and not 1 <= job.dimensions <= self._geometry.hidden:
            raise Unsupported(
                f"{self._name} makes vectors of {self._geometry.hidden} numbers, not of {job.dimensions}",
                param="dimensions",
            )

    def _refuse_unless_cut(self, index: int, tokens: int, job: EmbedJob) -> None:
        if not job.truncate:
            raise ContextTooLong(
                f"input {index} has {tokens} tokens, and {self._name} takes {self._context}: "
                "send it in shorter pieces",
                param=f"input[{index}]",
            )

    def _cut_warnings(self, texts: Sequence[_Ready]) -> Iterator[str]:
        cut = sum(text.is_cut for text in texts)
        if cut:
            yield f"{cut} of {len(texts)} inputs were cut to {self._context} tokens"
