"""A language model on a card: messages in, a stream of text out, and the same text after an interruption."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from hardware.card import Card
from models.boundary import card_errors
from models.llm.context import Context, Ready
from models.llm.network import Network
from models.llm.sampling import Chooser, Sampler
from models.llm.template import ChatTokenizer
from models.llm.text import Piece, TextStream
from tasks.engines import Signals, Verdict
from tasks.errors import ContextTooLong
from tasks.events import Cancelled, Event, Expired, Finished, TextDelta, Timings, Usage
from tasks.jobs import ChatJob, FinishReason


@dataclass(frozen=True, slots=True)
class _Task:
    """A chat job as numbers: ids in, at most ``limit`` ids out, chosen by ``choose``."""

    prompt: list[int]
    limit: int
    choose: Chooser
    warnings: tuple[str, ...]


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
        self, name: str, network: Network, tokenizer: ChatTokenizer, size_bytes: int, step_s: float
    ) -> None:
        self._name = name
        self._network = network
        self._tokenizer = tokenizer
        self._sampler = Sampler(network.geometry.vocab)
        self._size_bytes = size_bytes
        self._context = Context(network, step_s)

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return self._network.geometry.context

    @property
    def size_bytes(self) -> int:
        """Card memory this model takes, as measured while it was loaded."""
        return self._size_bytes

    def close(self) -> None:
        """Give everything back. Closing twice is harmless."""
        self._network.close()

    def stream(self, job: ChatJob, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        """Answer ``job``; see ``tasks.engines.ChatEngine``. Refuses what cannot fit before any card work.

        Usage counts the tokens the text was made of; the token that ends an answer is not among them.
        """
        task = self._task(job)
        text = TextStream(self._tokenizer.decode, job.sampling.stop)
        text.resume(emitted)
        watch = _Watch(self._network.card)
        with card_errors():
            yield from self._answer(task, list(emitted), text, signals, watch)

    def _task(self, job: ChatJob) -> _Task:
        sampling = job.sampling
        prompt = self._tokenizer.prompt_ids(job.messages, job.template_options)
        room = self.context - len(prompt)
        if room < 1:
            raise ContextTooLong(
                f"the prompt has {len(prompt)} tokens; the context of {self._name} is {self.context} tokens, "
                "prompt and answer together",
                param="messages",
            )
        warnings = [
            f"the model's chat template does not know {name}: it was ignored"
            for name in self._tokenizer.unknown_options(job.template_options)
        ]
        wanted = sampling.max_tokens if sampling.max_tokens is not None else room
        if wanted > room:
            warnings.append(
                f"max_tokens was lowered from {wanted} to {room}: the prompt has {len(prompt)} tokens "
                f"and the context is {self.context}"
            )
        return _Task(prompt, min(wanted, room), self._sampler.chooser(sampling), tuple(warnings))

    def _answer(
        self, task: _Task, told: list[int], text: TextStream, signals: Signals, watch: _Watch
    ) -> Iterator[Event]:
        """Everything after the prompt is known. ``told`` grows by every token of the answer."""
        if text.stopped or len(told) >= task.limit:
            # The earlier attempt had told all its text, and only not said that it was the end.
            yield self._finished(
                task, told, FinishReason.STOP if text.stopped else FinishReason.LENGTH, watch
            )
            return
        prepared = self._context.bring(task.prompt, told, signals)
        if isinstance(prepared, Verdict):
            yield from _farewell(prepared, _usage(task, told, watch))
            return
        watch.prefilled(prepared)
        ending = yield from self._generate(task, told, prepared, text, signals, watch)
        if isinstance(ending, Verdict):
            yield from _farewell(ending, _usage(task, told, watch))
        else:
            yield self._finished(task, told, ending, watch)

    def _generate(
        self, task: _Task, told: list[int], ready: Ready, text: TextStream, signals: Signals, watch: _Watch
    ) -> Generator[Event, None, FinishReason | Verdict]:
        logits, is_first = ready.logits, True
        while True:
            position = len(task.prompt) + len(told)
            token = task.choose(logits, position)
            if is_first:
                watch.chose_first()
                is_first = False
            if token in self._tokenizer.stop_ids:
                yield from _told(text.finish())
                return FinishReason.STOP
            told.append(token)
            yield from _told(text.push(token))
            if text.stopped:
                return FinishReason.STOP
            if len(told) == task.limit:
                yield from _told(text.finish())
                return FinishReason.STOP if text.stopped else FinishReason.LENGTH
            verdict = signals.between_steps()
            if verdict is not Verdict.GO_ON:
                return verdict
            logits = self._context.step(token, signals)

    def _finished(self, task: _Task, told: list[int], reason: FinishReason, watch: _Watch) -> Finished:
        return Finished(reason, _usage(task, told, watch), watch.timings(), warnings=task.warnings)


def _usage(task: _Task, told: list[int], watch: _Watch) -> Usage:
    return Usage(len(task.prompt), len(told), cached_tokens=watch.cached_tokens)


def _told(piece: Piece | None) -> Iterator[Event]:
    if piece is not None:
        yield TextDelta(piece.text, piece.token_ids)


def _farewell(verdict: Verdict, usage: Usage) -> Iterator[Event]:
    """The terminal event that a verdict asks for; none when the job is somebody else's by now."""
    if verdict is Verdict.CANCEL:
        yield Cancelled("requested", usage)
    elif verdict is Verdict.EXPIRE:
        yield Expired()
