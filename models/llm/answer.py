"""One answer in the making: a job as token ids, and what its tokens mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hardware.card import Array
from models.llm.bound import constraint_of, must_call
from models.llm.calls import BEGINNING_OF_CALL
from models.llm.choose import Chooser
from models.llm.constraint import Constraint
from models.llm.geometry import Geometry
from models.llm.guide import Guide
from models.llm.markup import CLOSE_THOUGHTS, END_OF_THOUGHTS, OPEN_THOUGHTS, Markup
from models.llm.reply import Reply
from models.llm.template import ChatTokenizer, Prompt
from tasks.errors import ContextTooLong, Unsupported
from tasks.events import Delta, TokenLogprob
from tasks.jobs import ChatJob, FinishReason, ToolChoice

_SWITCH = "enable_thinking"
"""The option by which chat templates turn thinking on and off."""


class Answer:
    """What was told so far, and from that what comes next.

        while (token := answer.choose(logits)) is not None:
            yield from answer.tell(token)
            if answer.is_whole:
                break
        yield from answer.finish()

    A call that is required begins as given tokens, and leaves no room for thoughts: those are switched off.
    An answer that is bound cannot end within its thoughts: what ends the turn there ends only them.
    """

    def __init__(
        self,
        prompt: list[int],
        limit: int,
        tokenizer: ChatTokenizer,
        chooser: Chooser,
        reply: Reply,
        guide: Guide,
        constraint: Constraint | None = None,
    ) -> None:
        self.prompt = prompt
        self.told: list[int] = []
        """The ids of the answer's tokens, those included whose text is still kept back."""
        self.requires_call = False
        self._limit = limit
        self._stop_ids = tokenizer.stop_ids
        self._chooser = chooser
        self._reply = reply
        self._guide = guide
        self._constraint = constraint
        self._is_given = False
        self._score: TokenLogprob | None = None
        self._warnings: list[str] = []

    @classmethod
    def to(cls, job: ChatJob, name: str, tokenizer: ChatTokenizer, geometry: Geometry) -> Answer:
        """Prepare the answer to ``job`` by the model ``name``.

        Raises:
            ContextTooLong: the prompt leaves no room.
            InvalidJob: the template refuses the messages, or an option cannot be honoured.
        """
        plan = _Plan(job, tokenizer, geometry.vocab)
        prompt = plan.prompt.ids
        room = geometry.context - len(prompt)
        if room < 1:
            raise ContextTooLong(
                f"the prompt has {len(prompt)} tokens; the context of {name} is {geometry.context} tokens, "
                "prompt and answer together",
                param="messages" if job.raw is None else "prompt",
            )
        wanted = job.sampling.max_tokens if job.sampling.max_tokens is not None else room
        if wanted > room:
            plan.warnings.append(
                f"max_tokens was lowered from {wanted} to {room}: the prompt has {len(prompt)} tokens "
                f"and the context is {geometry.context}"
            )
        chooser = Chooser(job.sampling, geometry.vocab, prompt, tokenizer.token_bytes)
        reply = Reply(tokenizer.decode, plan.markup, lambda index: call_id(job, index))
        constraint = plan.constraint(geometry.vocab)
        answer = cls(prompt, min(wanted, room), tokenizer, chooser, reply, plan.guide, constraint)
        answer.requires_call = plan.requires_call
        answer._warnings = plan.warnings
        return answer

    @property
    def is_whole(self) -> bool:
        """Nothing more is to be said: a stop string, the last wanted call or brace, or the limit."""
        return self._reply.is_over or self._is_bound_up or len(self.told) >= self._limit

    @property
    def reason(self) -> FinishReason:
        """Why the answer ends here."""
        if not self._reply.is_over and not self._is_bound_up and len(self.told) >= self._limit:
            return FinishReason.LENGTH
        return FinishReason.TOOL_CALLS if self._reply.calls else FinishReason.STOP

    @property
    def reasoning_tokens(self) -> int:
        return self._reply.reasoning_tokens

    @property
    def warnings(self) -> tuple[str, ...]:
        warnings = (*self._warnings, *self._reply.warnings)
        if self.requires_call and not self._reply.calls:
            return (*warnings, "tool_choice asked for a call, and the model made none that can be read")
        return warnings

    def resume(self, emitted: Sequence[int]) -> None:
        """Go on behind the tokens that an earlier attempt has told."""
        for token in emitted:
            self._is_given = self._guide.next(self._reply) is not None
            for _ in self.tell(token):
                pass
        self._reply.assume_told()

    def choose(self, logits: Array) -> int | None:
        """The next token; None when the model has ended its turn."""
        given = self._guide.next(self._reply)
        self._is_given = given is not None
        if given is not None:
            return self._give(given)
        allowed = self._constraint.allowed() if self._constraint and self._is_bound else None
        token, self._score = self._chooser.choose(logits, allowed)
        if token not in self._stop_ids:
            return token
        if self._constraint is None or not self._reply.is_thinking:
            return None
        return self._give(self._guide.leave_thoughts())

    def tell(self, token: int) -> Iterator[Delta]:
        """Take the token that was chosen; what may be told now."""
        was_bound = self._is_bound
        self.told.append(token)
        self._chooser.note(token)
        told = self._reply.push(token, self._score)
        if was_bound and self._constraint is not None:
            self._constrain(self._constraint, token)
        yield from told

    def finish(self) -> Iterator[Delta]:
        """What was kept back, when nothing follows."""
        yield from self._reply.finish()

    def _give(self, token: int) -> int:
        self._score = self._chooser.given(token)
        return token

    @property
    def _is_bound(self) -> bool:
        """The constraint holds for what is chosen, but for thoughts and what is given."""
        return self._constraint is not None and not self._is_given and not self._reply.is_thinking

    @property
    def _is_bound_up(self) -> bool:
        return self._constraint is not None and self._constraint.is_over

    def _constrain(self, constraint: Constraint, token: int) -> None:
        if self._reply.is_thinking:
            constraint.opened()
        else:
            constraint.take(token)


class _Plan:
    """What a job's tools and thoughts come to with one tokenizer."""

    prompt: Prompt
    markup: Markup
    guide: Guide

    def __init__(self, job: ChatJob, tokenizer: ChatTokenizer, vocab: int) -> None:
        self._job = job
        self._tokenizer = tokenizer
        self.warnings: list[str] = []
        # What goes on from a raw prompt is text, whatever it looks like.
        self._thinks = tokenizer.knows_thinking and job.raw is None
        self.requires_call = must_call(job)
        tools = () if job.tool_choice == ToolChoice.NONE else job.tools
        if tools and not tokenizer.knows_tools:
            raise Unsupported(
                "the model's chat template knows no tools, or not in Qwen's form", param="tools"
            )
        if job.raw is None:
            self.prompt = tokenizer.prompt(job.messages, self._options(), tools)
        else:
            self.prompt = tokenizer.raw(job.raw, vocab)
        self.markup = Markup(
            stop=job.sampling.stop,
            thinks=self._thinks,
            in_thoughts=self.prompt.in_thoughts,
            tools=frozenset(tool.name for tool in tools),
            calls_once=job.calls_once,
        )
        closing = tokenizer.encode(END_OF_THOUGHTS) if self._thinks else []
        mark = tokenizer.encode(CLOSE_THOUGHTS) if self._thinks else []
        beginning = self._beginning(closing)
        self.guide = Guide(beginning, closing, self._budget(), mark)

    def constraint(self, vocab: int) -> Constraint | None:
        """What the answer is bound to, if it is; thoughts may come before it where they are wanted."""
        opening = None
        if self._thinks and not self.prompt.in_thoughts and not self._closes_thoughts:
            opening = self._tokenizer.single(OPEN_THOUGHTS)
        return constraint_of(self._job, self._tokenizer, vocab, opening, self.warnings)

    def _options(self) -> Mapping[str, Any]:
        """The template's options; which of them it ignores is told."""
        options, thinking = dict(self._job.template_options), self._job.thinking
        if thinking.is_on is not None:
            options[_SWITCH] = thinking.is_on
        self.warnings += [
            f"the model's chat template does not know {name}: it was ignored"
            for name in sorted(options)
            if not self._tokenizer.knows(name) and not (name == _SWITCH and self._closes_thoughts)
        ]
        if thinking.budget_tokens is not None and not self._tokenizer.knows_thinking:
            self.warnings.append("the model's chat template does not know thinking: its budget was ignored")
        if self.requires_call and self._tokenizer.knows(_SWITCH):
            if options.get(_SWITCH):
                self.warnings.append("the call that tool_choice requires leaves no room for thoughts")
            options[_SWITCH] = False
        return options

    @property
    def _closes_thoughts(self) -> bool:
        """No thoughts are wanted; where the template cannot leave them out they are closed at once."""
        return self._job.thinking.is_on is False and self._tokenizer.knows_thinking

    def _budget(self) -> int | None:
        return 0 if self._closes_thoughts else self._job.thinking.budget_tokens

    def _beginning(self, closing: list[int]) -> list[int]:
        if not self.requires_call:
            return []
        opening = self._tokenizer.encode(BEGINNING_OF_CALL)
        return [*closing, *opening] if self.prompt.in_thoughts else opening


def call_id(job: ChatJob, index: int) -> str:
    """The id of an answer's ``index``-th call: the same in every attempt, and no other job's."""
    return "call_" + hashlib.sha256(f"{job.submission.id} {index}".encode()).hexdigest()[:24]
