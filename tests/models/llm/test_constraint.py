"""Answers that are bound to a schema: by logits without any sense, which look for every hole there is."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from itertools import islice
from typing import Any

import jsonschema
import numpy as np
import pytest

from bench.schema import by_chance, followable
from hardware.card import Array
from models.catalog import DEMO_PACKAGES
from models.llm.answer import Answer
from models.llm.constraint import Constraint
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from tasks.errors import Unsupported
from tasks.events import Delta
from tasks.grammar import grammar_of
from tasks.jobs import ChatJob, FinishReason, Thinking
from tasks.made import Made
from tests.models.cards import chat
from tests.models.llm.test_answer import geometry

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.load(find_package(DEMO_PACKAGES / "hearth-chat"))


def bound(schema: dict[str, Any], thinking: Thinking | None = None, **sampling: Any) -> ChatJob:
    """A job without thoughts, unless ``thinking`` says otherwise."""
    sampling = {"temperature": 1.0, "max_tokens": 400, **sampling}
    return replace(
        chat(**sampling), json_schema=json.dumps(schema), thinking=thinking or Thinking(is_on=False)
    )


class Senseless:
    """A model whose logits depend on the position alone, with a liking for some tokens at some places."""

    def __init__(self, tokenizer: ChatTokenizer, job: ChatJob, likes: dict[int, int] | None = None) -> None:
        self.answer = Answer.to(job, "senseless", tokenizer, geometry(tokenizer, 20_000))
        self._vocab = tokenizer.size
        self._likes = likes or {}

    def run(self, emitted: list[int] | None = None) -> list[Delta]:
        self.answer.resume(emitted or [])
        told: list[Delta] = []
        while not self.answer.is_whole:
            token = self.answer.choose(self._logits(len(self.answer.told)))
            if token is None:
                break
            told += self.answer.tell(token)
        return [*told, *self.answer.finish()]

    def _logits(self, position: int) -> Array:
        logits = np.random.default_rng(position).normal(size=self._vocab).astype(np.float32)
        if position in self._likes:
            logits[self._likes[position]] = 100.0
        return logits


def test_random_schemas_are_kept_by_random_logits(tokenizer: ChatTokenizer) -> None:
    vocabulary = tokenizer.vocabulary(tokenizer.size)
    for number, schema in enumerate(islice(followable(40, seed=3), 40)):
        outcome = by_chance(schema, vocabulary, np.random.default_rng(number))
        assert outcome.stopped, schema
        assert outcome.is_valid, (schema, outcome.text)


def test_an_answer_ends_with_the_last_brace_and_can_be_cut_anywhere(tokenizer: ChatTokenizer) -> None:
    job = bound(PERSON)
    whole = Senseless(tokenizer, job)
    told = whole.run()
    made = Made.of(told)
    jsonschema.validate(json.loads(made.text), PERSON)
    assert whole.answer.reason is FinishReason.STOP
    for cut in range(0, len(made.token_ids), 3):
        # An earlier attempt has told whole deltas only.
        emitted = Made.of(told[:cut]).token_ids
        rest = Made.of(Senseless(tokenizer, job).run(list(emitted)))
        assert Made.of(told[:cut]).text + rest.text == made.text


def test_thoughts_are_free_and_the_answer_behind_them_is_bound(tokenizer: ChatTokenizer) -> None:
    opening, closing = tokenizer.single("<think>"), tokenizer.single("</think>")
    assert opening is not None
    assert closing is not None
    model = Senseless(tokenizer, bound(PERSON, Thinking(True)), {0: opening, 6: closing})
    made = Made.of(model.run())
    assert made.reasoning
    jsonschema.validate(json.loads(made.text), PERSON)


def test_a_budget_of_thoughts_does_not_disturb_the_answer(tokenizer: ChatTokenizer) -> None:
    opening = tokenizer.single("<think>")
    assert opening is not None
    model = Senseless(tokenizer, bound(PERSON, Thinking(True, budget_tokens=5)), {0: opening})
    made = Made.of(model.run())
    jsonschema.validate(json.loads(made.text), PERSON)
    assert made.token_ids == model.answer.told


def test_without_thoughts_the_first_token_is_the_answers(tokenizer: ChatTokenizer) -> None:
    opening = tokenizer.single("<think>")
    assert opening is not None
    made = Made.of(Senseless(tokenizer, bound(PERSON), {0: opening}).run())
    assert made.reasoning == ""
    assert made.text.startswith("{")


def test_the_turn_cannot_end_before_the_text_does(tokenizer: ChatTokenizer) -> None:
    stop = min(tokenizer.stop_ids)
    model = Senseless(tokenizer, bound(PERSON), dict.fromkeys(range(400), stop))
    jsonschema.validate(json.loads(Made.of(model.run()).text), PERSON)


def test_a_limit_may_cut_the_text_short(tokenizer: ChatTokenizer) -> None:
    model = Senseless(tokenizer, bound(PERSON, max_tokens=3))
    model.run()
    assert model.answer.reason is FinishReason.LENGTH


def test_what_cannot_be_followed_is_refused_before_the_card_is_touched(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(Unsupported, match="cannot be followed"):
        Constraint(grammar_of('{"type": "objekt"}'), tokenizer.vocabulary(tokenizer.size))


def in_pieces(tokenizer: ChatTokenizer) -> ChatTokenizer:
    """The same, but the mark that ends thoughts is no token of its own, and the template opens them."""
    inner = copy.deepcopy(tokenizer._tokenizer)
    inner.chat_template += "{{ '<think>\n' }}"
    parts = json.loads(inner._tokenizer.to_str())
    parts["added_tokens"] = [each for each in parts["added_tokens"] if each["content"] != "</think>"]
    inner._tokenizer = type(inner._tokenizer).from_str(json.dumps(parts))
    return ChatTokenizer(inner, tokenizer.stop_ids)


def weary(tokenizer: ChatTokenizer, job: ChatJob, thoughts: str) -> Senseless:
    """Says ``thoughts``, ends its turn within them, and behind them says whatever comes."""
    said = [*tokenizer.encode(thoughts), min(tokenizer.stop_ids)]
    return Senseless(tokenizer, job, dict(enumerate(said)))


@pytest.mark.parametrize("thoughts", ["<think>", "<think>\nhm", "<think>\nhm\n", "<think>a <", "<think>a </"])
def test_who_ends_the_turn_within_the_thoughts_ends_only_these(
    tokenizer: ChatTokenizer, thoughts: str
) -> None:
    job = bound(PERSON, Thinking(True))
    model = weary(tokenizer, job, thoughts)
    made = Made.of(model.run())
    jsonschema.validate(json.loads(made.text), PERSON)
    assert made.reasoning == thoughts.removeprefix("<think>").strip()
    assert model.answer.reason is FinishReason.STOP
    assert tokenizer.decode(model.answer.told).startswith(f"{thoughts}</think>{{")


def test_an_answer_that_is_free_may_end_within_its_thoughts(tokenizer: ChatTokenizer) -> None:
    job = replace(bound(PERSON, Thinking(True)), json_schema=None)
    made = Made.of(weary(tokenizer, job, "<think>hm").run())
    assert (made.reasoning, made.text) == ("hm", "")


@pytest.mark.parametrize(
    ("is_one", "budget"),
    [(True, None), (True, 7), (False, None), *((False, budget) for budget in range(4, 9))],
)
def test_thoughts_that_ended_the_turn_are_ended_again_behind_any_cut(
    tokenizer: ChatTokenizer, is_one: bool, budget: int | None
) -> None:
    """Also where their budget is used up within the mark that ends them, if that is several tokens."""
    own = tokenizer if is_one else in_pieces(tokenizer)
    assert (own.single("</think>") is not None) == is_one
    thoughts = "<think>\nwell" if is_one else "well\n"
    job = bound(PERSON, Thinking(True, budget))
    whole = weary(own, job, thoughts)
    told = whole.run()
    jsonschema.validate(json.loads(Made.of(told).text), PERSON)
    for cut in range(len(told) + 1):
        again = weary(own, job, thoughts)
        rest = Made.of(again.run(list(Made.of(told[:cut]).token_ids)))
        assert again.answer.told == whole.answer.told
        assert Made.of(told[:cut]).text + rest.text == Made.of(told).text
