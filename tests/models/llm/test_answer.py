"""What a job's options, thoughts and tools make of an answer, with a model that says what it is told to."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hardware.card import Array
from models.catalog import DEMO_PACKAGES
from models.llm.answer import Answer, call_id
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from tasks.errors import InvalidJob, Unsupported
from tasks.events import Delta, TextDelta, ToolCall
from tasks.jobs import ChatJob, FinishReason, Thinking, Tool
from tests.models.cards import chat
from tests.models.llm.test_reply import ids, meaning

ADD = Tool("add", "adds", '{"type": "object", "properties": {"a": {"type": "integer"}}}')
SAY = Tool("say", "", '{"type": "object", "properties": {}}')
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
OPENING = TEMPLATE + "{{ '<think>\n' }}"


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.load(find_package(DEMO_PACKAGES / "hearth-chat"))


def with_template(tokenizer: ChatTokenizer, template: str) -> ChatTokenizer:

    inner = copy.deepcopy(tokenizer._tokenizer)
    inner.chat_template = template
    return ChatTokenizer(inner, tokenizer.stop_ids)


class Model:
    """Says ``script`` whenever it may choose, then ends its turn; knows which tokens were given to it."""

    def __init__(self, tokenizer: ChatTokenizer, job: ChatJob, script: str, limit: int = 500) -> None:
        self.answer = Answer.to(job, "scripted", tokenizer, geometry(tokenizer, limit))
        self._script = [*tokenizer.encode(script), min(tokenizer.stop_ids)]
        self._vocab = geometry(tokenizer).vocab
        self._chosen = 0
        self.free: list[bool] = []
        choose = self.answer._chooser.choose

        def counted(logits: Array, allowed: Any = None) -> Any:
            self._chosen += 1
            return choose(logits, allowed)

        self.answer._chooser.choose = counted  # type: ignore[method-assign]

    def resume(self, emitted: list[int], free: list[bool]) -> None:
        self._chosen = sum(free[: len(emitted)])
        self.answer.resume(emitted)

    def run(self) -> Iterator[Delta]:
        while not self.answer.is_whole:
            before = self._chosen
            token = self.answer.choose(self._logits())
            if token is None:
                break
            self.free.append(self._chosen > before)
            yield from self.answer.tell(token)
        yield from self.answer.finish()

    def _logits(self) -> Array:
        logits = np.full(self._vocab, 0.0, np.float32)
        logits[self._script[min(self._chosen, len(self._script) - 1)]] = 50.0
        return logits


def geometry(tokenizer: ChatTokenizer, context: int = 500) -> Any:
    return SimpleNamespace(context=context, vocab=tokenizer.size)


def said(tokenizer: ChatTokenizer, job: ChatJob, script: str) -> tuple[list[tuple[str, ...]], Answer]:
    model = Model(tokenizer, job, script)
    return meaning(list(model.run())), model.answer


def test_thoughts_end_at_their_budget_and_an_answer_comes(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(), thinking=Thinking(True, budget_tokens=6))
    events, answer = said(tokenizer, job, "<think>\nabcdefghijklmnopqrstuvwxyz")
    assert [kind for kind, _ in events] == ["reasoning_delta", "text_delta"]
    assert events[0][1] + events[1][1] == "abcdefghijklmnopqrstuvwxyz"
    closing = len(tokenizer.encode("\n</think>"))
    assert answer.reasoning_tokens == 6 + closing
    assert answer.reason is FinishReason.STOP
    assert tokenizer.decode(answer.told).startswith(f"<think>\n{events[0][1]}\n</think>\n\n{events[1][1]}")


def test_thoughts_within_their_budget_are_left_alone(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(), thinking=Thinking(True, budget_tokens=100))
    events, answer = said(tokenizer, job, "<think>\nhm\n</think>\n\nyes")
    assert events == [("reasoning_delta", "hm"), ("text_delta", "yes")]
    assert answer.warnings == ()


def test_without_thinking_the_prompt_closes_the_thoughts(tokenizer: ChatTokenizer) -> None:
    asked = Answer.to(chat(), "m", tokenizer, geometry(tokenizer)).prompt
    job = replace(chat(), thinking=Thinking(False))
    closed = Answer.to(job, "m", tokenizer, geometry(tokenizer)).prompt
    assert tokenizer.decode(closed[len(asked) :]) == "<think>\n\n</think>\n\n"


def test_thoughts_a_template_always_opens_are_closed_at_once_when_none_are_wanted(
    tokenizer: ChatTokenizer,
) -> None:
    opening = with_template(tokenizer, OPENING)
    events, answer = said(opening, chat(), "hm</think>yes")
    assert events == [("reasoning_delta", "hm"), ("text_delta", "yes")]
    events, answer = said(opening, replace(chat(), thinking=Thinking(False)), "yes")
    assert (events, answer.warnings) == ([("text_delta", "yes")], ())
    assert opening.decode(answer.told) == "\n</think>\n\nyes"


def test_a_template_that_knows_no_thinking_says_so(tokenizer: ChatTokenizer) -> None:
    plain = with_template(tokenizer, TEMPLATE)
    job = replace(chat(), thinking=Thinking(True, budget_tokens=5))
    events, answer = said(plain, job, "<think>is text")
    assert events == [("text_delta", "<think>is text")]
    assert answer.warnings == (
        "the model's chat template does not know enable_thinking: it was ignored",
        "the model's chat template does not know thinking: its budget was ignored",
    )


def test_calls_end_an_answer_with_their_reason(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(), tools=(ADD, SAY))
    events, answer = said(tokenizer, job, f"Let me add.\n{CALL}\n{CALL}")
    assert [event[0] for event in events] == ["text_delta", "call", "call"]
    assert events[1] == ("call", call_id(job, 0), "add", '{"a": 1}')
    assert events[2][1] == call_id(job, 1) != call_id(job, 0)
    assert answer.reason is FinishReason.TOOL_CALLS


def test_a_job_that_calls_once_ends_behind_its_first_call(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(), tools=(ADD,), calls_once=True)
    events, answer = said(tokenizer, job, f"{CALL}\n{CALL}")
    assert [event[0] for event in events] == ["call"]
    assert answer.reason is FinishReason.TOOL_CALLS
    assert tokenizer.decode(answer.told) == CALL


@pytest.mark.parametrize(
    ("choice", "tools"), [("add", (SAY, ADD)), ("required", (ADD,)), ("required", (SAY, ADD))]
)
def test_a_required_call_is_begun_for_the_model(
    tokenizer: ChatTokenizer, choice: str, tools: tuple[Tool, ...]
) -> None:
    job = replace(chat(), tools=tools, tool_choice=choice)
    events, answer = said(tokenizer, job, CALL.removeprefix("<tool_call>\n"))
    assert events == [("call", call_id(job, 0), "add", '{"a": 1}')]
    assert (answer.reason, answer.warnings) == (FinishReason.TOOL_CALLS, ())
    assert tokenizer.decode(answer.told) == CALL
    assert tokenizer.decode(answer.prompt).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("thinking", [Thinking(), Thinking(False), Thinking(budget_tokens=0)])
def test_a_required_call_leaves_the_thoughts_a_template_opens(
    tokenizer: ChatTokenizer, thinking: Thinking
) -> None:
    opening = with_template(tokenizer, OPENING + "{# tools <tool_call> #}")
    job = replace(chat(), tools=(ADD,), tool_choice="required", thinking=thinking)
    events, answer = said(opening, job, CALL.removeprefix("<tool_call>\n"))
    assert [event[0] for event in events] == ["call"]
    assert opening.decode(answer.told) == f"\n</think>\n\n{CALL}"


def test_a_required_call_that_is_cut_short_is_reported(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(max_tokens=4), tools=(ADD, SAY), tool_choice="required", thinking=Thinking(True))
    events, answer = said(tokenizer, job, "no")
    assert events == [("text_delta", '<tool_call>\n{"')]
    assert answer.reason is FinishReason.LENGTH
    assert [warning.split(":")[0].split(" could")[0] for warning in answer.warnings] == [
        "the call that tool_choice requires leaves no room for thoughts",
        "a tool call of the model",
        "tool_choice asked for a call, and the model made none that can be read",
    ]


def test_no_tools_are_shown_when_none_may_be_called(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(), tools=(ADD,), tool_choice="none")
    events, answer = said(tokenizer, job, CALL)
    assert events == [("text_delta", CALL)]
    assert answer.prompt == Answer.to(chat(), "m", tokenizer, geometry(tokenizer)).prompt


def test_a_template_without_tools_refuses_them(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(Unsupported) as refused:
        said(with_template(tokenizer, TEMPLATE), replace(chat(), tools=(ADD,)), "")
    assert refused.value.param == "tools"


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((1_000_000, 1.0),)}, "logit_bias"),
        ({"temperature": -1.0}, "temperature"),
        ({"min_p": 2.0}, "min_p"),
    ],
)
def test_an_option_the_model_cannot_have_is_refused_by_name(
    tokenizer: ChatTokenizer, sampling: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidJob) as refused:
        Answer.to(chat(**sampling), "m", tokenizer, geometry(tokenizer))
    assert refused.value.param == param


def test_a_biased_token_is_chosen_or_never_is(tokenizer: ChatTokenizer) -> None:
    (a,), (b,) = tokenizer.encode("a"), tokenizer.encode("b")
    job = chat(temperature=0.0, max_tokens=1, logit_bias=((a, -100.0), (b, 60.0)))
    assert said(tokenizer, job, "a")[0] == [("text_delta", "b")]


def test_a_repeated_token_is_penalised(tokenizer: ChatTokenizer) -> None:
    (a,) = tokenizer.encode("a")
    job = chat(temperature=0.0, max_tokens=3, frequency_penalty=2.0, presence_penalty=2.0)
    model = Model(tokenizer, job, "")
    logits = np.zeros(tokenizer.size, np.float32)
    logits[a], logits[a + 1] = 5.0, 0.5
    tokens = []
    while not model.answer.is_whole:
        token = model.answer.choose(logits)
        assert token is not None
        tokens.append(token)
        list(model.answer.tell(token))
    assert tokens == [a, a, a + 1]  # 5, then 5 − 2 − 2 = 1, then below 0.5


def test_probabilities_come_with_the_text_and_given_tokens_are_certain(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(logprobs=2), thinking=Thinking(True, budget_tokens=0))
    model = Model(tokenizer, job, "<think>é!")
    events = [event for event in model.run() if isinstance(event, TextDelta)]
    scores = [score for event in events for score in event.logprobs]
    assert b"".join(bytes(score.chosen.token_bytes) for score in scores).decode() == "é!"
    assert all(len(score.top) == 2 for score in scores)
    assert all(score.top[0] == score.chosen for score in scores)
    assert all(-1e-3 < score.chosen.logprob <= 0 for score in scores)
    forced = replace(chat(logprobs=0, max_tokens=4), tools=(ADD, SAY), tool_choice="required")
    (told,) = [event for event in Model(tokenizer, forced, "no").run() if isinstance(event, TextDelta)]
    assert [score.chosen.logprob for score in told.logprobs][:2] == [0.0, 0.0]


SCRIPTS: list[tuple[dict[str, Any], str]] = [
    ({"thinking": Thinking(True, 9)}, "<think>\nwell, well, well\n</think>\n\nThe answer é漢 is\n42."),
    ({"tools": (ADD,)}, f"<think>\nhm\n</think>\n\nSee:\n\n{CALL}\n{CALL}"),
    ({"tools": (ADD,)}, "Oh\n<tool_call>\nbroken\n</tool_call>\n" + CALL),
    ({"tools": (ADD, SAY), "tool_choice": "add"}, '{"name": "add", "arguments": {"a": 12}}\n</tool_call>'),
    ({"tools": (ADD,)}, CALL.removesuffix("\n</tool_call>")),
]


@pytest.mark.parametrize(("options", "script"), SCRIPTS)
def test_an_answer_goes_on_from_any_cut(
    tokenizer: ChatTokenizer, options: dict[str, Any], script: str
) -> None:
    job = replace(chat(repetition_penalty=1.1, temperature=0.9, logprobs=1), **options)
    first = Model(tokenizer, job, script)
    whole = list(first.run())
    assert len(whole) > 1 or isinstance(whole[0], ToolCall)
    for cut in range(len(whole) + 1):
        again = Model(tokenizer, job, script)
        again.resume(ids(whole[:cut]), first.free)
        assert list(again.run()) == whole[cut:]
        assert again.answer.told == first.answer.told
        assert again.answer.reason is first.answer.reason
        assert again.answer.warnings == first.answer.warnings
        assert again.answer.reasoning_tokens == first.answer.reasoning_tokens


def test_the_limit_ends_an_answer_even_within_a_call(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(max_tokens=5), tools=(ADD,))
    events, answer = said(tokenizer, job, CALL)
    assert answer.reason is FinishReason.LENGTH
    assert len(answer.told) == 5
    assert events == [("text_delta", tokenizer.decode(answer.told))]
    assert any("could not be read" in warning for warning in answer.warnings)


def test_arguments_reach_the_client_as_json(tokenizer: ChatTokenizer) -> None:
    job = replace(chat(), tools=(ADD,))
    script = '<tool_call>\n{"name": "add", "arguments": {"a": "é \\" \\u0000"}}\n</tool_call>'
    events, _ = said(tokenizer, job, script)
    assert json.loads(events[0][3]) == {"a": 'é " \x00'}
