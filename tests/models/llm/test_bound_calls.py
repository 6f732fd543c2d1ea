"""Calls that are bound to their functions' schemas: by logits without any sense."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from models.catalog import DEMO_PACKAGES
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from tasks.errors import Unsupported
from tasks.grammar import CallMarks, fault_of_parameters, grammar_of_calls
from tasks.jobs import ChatJob, FinishReason, Thinking, Tool
from tasks.made import Made
from tests.models.cards import chat
from tests.models.llm.test_constraint import PERSON, Senseless

LAMP = {
    "type": "object",
    "properties": {
        "room": {"$ref": "#/$defs/room"},
        "share": {"type": "integer", "minimum": 0, "maximum": 100},
        "colour": {"type": "string", "maxLength": 6},
    },
    "required": ["room", "share"],
    "additionalProperties": False,
    "$defs": {"room": {"enum": ["kitchen", "hall"]}},
}
EMPTY = {"type": "object", "properties": {}}
UNFOLLOWABLE = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}


def tool(name: str, schema: dict[str, Any], *, strict: bool = False) -> Tool:
    return Tool(name, "", json.dumps(schema), strict)


LAMPS, STOPS = tool("lamp", LAMP), tool("stop_all", EMPTY)
SCHEMAS = {"lamp": LAMP, "stop_all": {**EMPTY, "maxProperties": 0}}


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.load(find_package(DEMO_PACKAGES / "hearth-chat"))


def job(*tools: Tool, seed: int = 1, max_tokens: int = 300, **fields: Any) -> ChatJob:
    return replace(
        chat(temperature=1.0, max_tokens=max_tokens, seed=seed),
        tools=tools,
        thinking=Thinking(is_on=False),
        **fields,
    )


def check(made: Made) -> None:
    for call in made.calls:
        jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])


@pytest.mark.parametrize("seed", range(8))
def test_a_required_call_is_always_one_that_its_schema_allows(tokenizer: ChatTokenizer, seed: int) -> None:
    """Whatever the model would rather say; only the limit can cut it short, behind whole calls."""
    model = Senseless(tokenizer, job(LAMPS, STOPS, seed=seed, tool_choice="required", calls_once=True))
    made = Made.of(model.run())
    check(made)
    assert (len(made.calls), made.text) == (1, "")
    assert model.answer.reason is FinishReason.TOOL_CALLS
    assert model.answer.warnings == ()


@pytest.mark.parametrize("seed", range(4))
def test_a_named_function_is_called_once_and_no_other(tokenizer: ChatTokenizer, seed: int) -> None:
    model = Senseless(tokenizer, job(STOPS, LAMPS, seed=seed, tool_choice="lamp"))
    made = Made.of(model.run())
    check(made)
    assert [call.name for call in made.calls] == ["lamp"]
    assert made.text == ""


def test_several_calls_may_follow_where_one_is_required(tokenizer: ChatTokenizer) -> None:
    asked = job(STOPS, tool_choice="required")
    line, opening = tokenizer.encode("\n")[0], tokenizer.single("<tool_call>")
    one = len(tokenizer.encode('<tool_call>\n{"name": "stop_all", "arguments": {}}\n</tool_call>'))
    assert opening is not None
    made = Made.of(Senseless(tokenizer, asked, {one: line, one + 1: opening}).run())
    assert [call.name for call in made.calls][:2] == ["stop_all", "stop_all"]


def test_a_call_goes_on_from_any_cut(tokenizer: ChatTokenizer) -> None:
    asked = job(LAMPS, STOPS, tool_choice="required", calls_once=True)
    whole = Senseless(tokenizer, asked)
    whole.run()
    for cut in range(len(whole.answer.told)):
        again = Senseless(tokenizer, asked)
        again.run(whole.answer.told[:cut])
        assert again.answer.told == whole.answer.told


@pytest.mark.parametrize("seed", range(6))
def test_a_strict_function_is_bound_also_where_nothing_must_be_called(
    tokenizer: ChatTokenizer, seed: int
) -> None:
    """Text stays free, also before and behind a call."""
    opening = tokenizer.single("<tool_call>")
    assert opening is not None
    strict = replace(LAMPS, strict=True)
    asked = job(strict, STOPS, seed=seed, max_tokens=200)
    model = Senseless(tokenizer, asked, {5: opening, 120: opening})
    made = Made.of(model.run())
    check(made)
    assert made.calls
    assert made.text


def test_who_ends_the_turn_within_the_thoughts_may_still_call(tokenizer: ChatTokenizer) -> None:
    opening = tokenizer.single("<tool_call>")
    assert opening is not None
    thoughts = [*tokenizer.encode("<think>hm"), min(tokenizer.stop_ids)]
    likes = {**dict(enumerate(thoughts)), len(thoughts): opening}
    asked = replace(job(replace(LAMPS, strict=True), calls_once=True), thinking=Thinking(True))
    made = Made.of(Senseless(tokenizer, asked, likes).run())
    check(made)
    assert (made.reasoning, made.text, len(made.calls)) == ("hm", "", 1)


@pytest.mark.parametrize("calls", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_an_answer_of_some_form_is_either_that_or_a_call(
    tokenizer: ChatTokenizer, seed: int, calls: bool
) -> None:
    opening, brace = tokenizer.single("<tool_call>"), tokenizer.encode("{")[0]
    assert opening is not None
    asked = job(LAMPS, seed=seed, json_schema=json.dumps(PERSON), calls_once=True)
    made = Made.of(Senseless(tokenizer, asked, {0: opening if calls else brace}).run())
    check(made)
    assert bool(made.calls) == calls
    if calls:
        assert made.text == ""
    else:
        jsonschema.validate(json.loads(made.text), PERSON)


def test_a_schema_that_cannot_be_followed_leaves_an_object(tokenizer: ChatTokenizer) -> None:
    assert fault_of_parameters(json.dumps(UNFOLLOWABLE)) is not None
    asked = job(tool("odd", UNFOLLOWABLE), max_tokens=400, tool_choice="odd")
    made = Made.of(Senseless(tokenizer, asked).run())
    assert all(isinstance(json.loads(call.arguments), dict) for call in made.calls)


def test_arguments_that_are_no_object_are_nothing_to_follow() -> None:
    assert fault_of_parameters('{"type": "string"}') is not None
    assert fault_of_parameters("{}") is None
    assert fault_of_parameters(json.dumps(LAMP)) is None


def test_too_large_a_grammar_loosens_calls_with_a_warning_unless_they_are_strict(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each schema may be followed by itself, and all of them together be too much."""
    wide = {"type": "object", "properties": {f"p{n}": {"enum": ["a", "b"]} for n in range(30)}}
    many = [tool(f"wide_{n}", wide) for n in range(3)]
    assert fault_of_parameters(json.dumps(wide)) is None
    monkeypatch.setattr("tasks.grammar._MAX_SYMBOLS", 300)
    model = Senseless(tokenizer, job(*many, tool_choice="required", calls_once=True))
    assert any("not bound to their schemas" in warning for warning in model.answer.warnings)
    made = Made.of(model.run())
    assert all(isinstance(json.loads(call.arguments), dict) for call in made.calls)
    with pytest.raises(Unsupported) as refused:
        Senseless(tokenizer, job(*(replace(each, strict=True) for each in many)))
    assert refused.value.param == "tools"


def test_calls_that_text_could_imitate_are_refused() -> None:
    marks = CallMarks("<tool_call>", "</tool_call>")
    with pytest.raises(ValueError, match="no token"):
        grammar_of_calls([LAMPS], marks, has_begun=False, once=False)
    assert "more" in grammar_of_calls([LAMPS], marks, has_begun=True, once=False)
