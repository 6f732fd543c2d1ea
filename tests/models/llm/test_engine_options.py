"""Sampling options, thoughts and tools through the whole engine, on the virtual card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from models.catalog import DEMO_PACKAGES, describe
from models.load import LoadedModel, load
from tasks.errors import InvalidJob, Unsupported
from tasks.events import Delta, Finished, ReasoningDelta, TextDelta, ToolCall
from tasks.jobs import ChatJob, FinishReason, Thinking, Tool
from tasks.made import Made
from tests.models.cards import OtherCard, Scripted, chat

ADD = Tool("get_weather", "the weather", '{"type": "object", "properties": {"city": {"type": "string"}}}')


@pytest.fixture
def demo(card: OtherCard) -> Iterator[LoadedModel]:
    loaded = load(card, describe(DEMO_PACKAGES / "hearth-chat"), lambda done, total: None)
    yield loaded
    loaded.close()


def run(engine: LoadedModel, job: ChatJob, emitted: list[int] | None = None) -> tuple[list[Delta], Finished]:
    *deltas, end = engine.stream(job, emitted or [], Scripted())
    assert isinstance(end, Finished)
    assert all(isinstance(event, Delta) for event in deltas)
    return [event for event in deltas if isinstance(event, Delta)], end


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.2, "min_p": 0.02, "repetition_penalty": 1.3, "repetition_window": 6, "logprobs": 3},
        {"temperature": 0.9, "typical_p": 0.9, "frequency_penalty": 1.5, "presence_penalty": -0.5},
        {"temperature": 0.0, "presence_penalty": 2.0, "logit_bias": ((40, 5.0), (41, -100.0))},
    ],
)
def test_every_option_goes_on_from_any_cut(engine: LoadedModel, options: dict[str, Any]) -> None:
    job = chat("resume", max_tokens=16, **options)
    whole, end = run(engine, job)
    made = Made.of(whole)
    assert len(made.logprobs) == (len(made.token_ids) if "logprobs" in options else 0)
    for cut in range(0, len(whole) + 1, 3):
        rest, again = run(engine, job, Made.of(whole[:cut]).token_ids)
        assert rest == whole[cut:]
        assert again.reason is end.reason


def test_penalties_and_biases_change_what_is_said(engine: LoadedModel) -> None:
    def said(**options: Any) -> list[int]:
        return Made.of(run(engine, chat(max_tokens=8, temperature=0.0, **options))[0]).token_ids

    favoured = ((40, 60.0),)
    assert said(logit_bias=favoured) == [40] * 8
    assert said(logit_bias=favoured, presence_penalty=200.0).count(40) == 1
    assert 40 not in said(logit_bias=((40, -100.0),))


@pytest.mark.parametrize("token", [-1, 300])
def test_a_bias_on_a_token_there_is_not_is_refused_before_the_card_is_touched(
    card: OtherCard, engine: LoadedModel, token: int
) -> None:
    before = card.counters.copy()
    with pytest.raises(InvalidJob, match="are 0 to 299") as refused:
        run(engine, chat(logit_bias=((token, 1.0),)))
    assert refused.value.param == "logit_bias"
    assert card.counters == before


def test_tools_the_template_cannot_show_are_refused_before_the_card_is_touched(
    card: OtherCard, engine: LoadedModel
) -> None:
    before = card.counters.copy()
    with pytest.raises(Unsupported) as refused:
        run(engine, replace(chat(), tools=(ADD,)))
    assert refused.value.param == "tools"
    assert card.counters == before


def test_the_demo_model_thinks_about_a_sum_and_then_answers(demo: LoadedModel) -> None:
    job = chat("What is 12 + 7?", temperature=0.0, max_tokens=120)
    deltas, end = run(demo, job)
    kinds = [type(delta) for delta in deltas]
    assert kinds == sorted(kinds, key=[ReasoningDelta, TextDelta].index)
    made = Made.of(deltas)
    assert made.reasoning
    assert made.text
    assert "think>" not in made.text + made.reasoning
    assert 0 < end.usage.reasoning_tokens < end.usage.completion_tokens == len(made.token_ids)

    silent, end = run(demo, replace(job, thinking=Thinking(False)))
    assert all(isinstance(delta, TextDelta) for delta in silent)
    assert end.usage.reasoning_tokens == 0

    short, end = run(demo, replace(job, thinking=Thinking(True, budget_tokens=4)))
    assert Made.of(short).text
    assert len(Made.of(short).reasoning) < len(made.reasoning)


def test_the_demo_model_calls_the_tool_it_has_to_call(demo: LoadedModel) -> None:
    job = chat("What is the weather in Paris?", temperature=0.0, max_tokens=120)
    deltas, end = run(demo, replace(job, tools=(ADD,), tool_choice="get_weather"))
    if end.reason is FinishReason.TOOL_CALLS:
        assert [delta.name for delta in deltas if isinstance(delta, ToolCall)] == ["get_weather"]
    else:  # what it makes of the arguments is its own affair; it is never hidden
        assert any("tool call" in warning for warning in end.warnings)
        assert Made.of(deltas).text.startswith('<tool_call>\n{"name": "get_weather", "arguments":')
