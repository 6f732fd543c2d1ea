"""A language model on a card: messages in, events out, and the same ones after an interruption."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence

from hardware.card import Card
from models.boundary import card_errors
from models.llm.answer import Answer
from models.llm.context import Context, Ready
from models.llm.network import Network
from models.llm.template import ChatTokenizer
from tasks.engines import Signals, Verdict
from tasks.events import Cancelled, Event, Expired, Finished, Timings, Usage
from tasks.jobs import ChatJob, FinishReason


class _Watch:
    """When things happened in one attempt, and how much of it was the card's own time."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._began_s = time.monotonic()
        self._busy_s = card.counters.busy_s
        self._prefilled_s = self._first_s = self._first_busy_s = 0.0
        self.cached_tokens = 0

    def prefilled(self, ready: Ready) -> None:
        self.cached_tokens = ready.cached_tokens
        self._prefilled_s = time.monotonic() - self._began_s

    def chose_first(self) -> None:
        self._first_s = time.monotonic() - self._began_s
        self._first_busy_s = self._card.counters.busy_s - self._busy_s

    def timings(self) -> Timings:
        total_s = time.monotonic() - self._began_s
        return Timings(
            prefill_ms=self._prefilled_s * 1000,
            decode_ms=(total_s - self._prefilled_s) * 1000 if self._prefilled_s else 0.0,
            first_token_ms=self._first_s * 1000,
            first_token_card_ms=self._first_busy_s * 1000,
        )


class LlmEngine:
    """One loaded model. Answers one job at a time, on the thread that owns the card.

    An answer is a function of messages, options and seed: an attempt that goes on after another first repeats
    what that one has told (``models.llm.context`` says how).
    """

    def __init__(
        self, name: str, network: Network, tokenizer: ChatTokenizer, size_bytes: int, context: Context
    ) -> None:
        self._name = name
        self._network = network
        self._tokenizer = tokenizer
        self._size_bytes = size_bytes
        self._context = context

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return self._network.geometry.context

    @property
    def size_bytes(self) -> int:
        """Card memory this model takes: as measured at loading, and what conversations took since."""
        return self._size_bytes + self._context.cache.size_bytes

    def close(self) -> None:
        """Give everything back. Closing twice is harmless."""
        self._context.cache.close()
        self._network.close()

    def trim(self) -> int:
        """Give back what only saves time: all conversations but the last. Returns how many bytes."""
        return self._context.cache.trim()

    def stream(self, job: ChatJob, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        """Answer ``job``; see ``tasks.engines.ChatEngine``. Refuses what cannot fit before any card work.

        Usage counts the tokens the text was made of; the token that ends an answer is not among them.
        """
        answer = Answer.to(job, self._name, self._tokenizer, self._network.geometry)
        answer.resume(emitted)
        watch = _Watch(self._network.card)
        with card_errors():
            yield from self._answer(answer, signals, watch)

    def _answer(self, answer: Answer, signals: Signals, watch: _Watch) -> Iterator[Event]:
        """Everything after the prompt is known."""
        if answer.is_whole:
            # The earlier attempt had told all of it, and only not said that it was the end.
            yield from answer.finish()
            yield self._finished(answer, answer.reason, watch)
            return
        prepared = self._context.bring(answer.prompt, answer.told, signals)
        if isinstance(prepared, Verdict):
            yield from _farewell(prepared, _usage(answer, watch))
            return
        watch.prefilled(prepared)
        ending = yield from self._generate(answer, prepared, signals, watch)
        if isinstance(ending, Verdict):
            yield from _farewell(ending, _usage(answer, watch))
        else:
            yield self._finished(answer, ending, watch)

    def _generate(
        self, answer: Answer, ready: Ready, signals: Signals, watch: _Watch
    ) -> Generator[Event, None, FinishReason | Verdict]:
        logits, is_first = ready.logits, True
        while True:
            token = answer.choose(logits)
            if is_first:
                watch.chose_first()
                is_first = False
            if token is None:
                yield from answer.finish()
                return answer.reason
            yield from answer.tell(token)
            if answer.is_whole:
                yield from answer.finish()
                return answer.reason
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                return verdict
            logits = self._context.step(token, signals)

    def _finished(self, answer: Answer, reason: FinishReason, watch: _Watch) -> Finished:
        return Finished(reason, _usage(answer, watch), watch.timings(), warnings=answer.warnings)


def _usage(answer: Answer, watch: _Watch) -> Usage:
    return Usage(
        len(answer.prompt),
        len(answer.told),
        cached_tokens=watch.cached_tokens,
        reasoning_tokens=answer.reasoning_tokens,
    )


def _farewell(verdict: Verdict, usage: Usage) -> Iterator[Event]:
    """The terminal event that a verdict asks for; none when the job is somebody else's by now."""
    if verdict is Verdict.CANCEL:
        yield Cancelled("requested", usage)
    elif verdict is Verdict.EXPIRE:
        yield Expired()
