"""Conversations of several turns through the engine and Qwen3's template: what is computed again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from models.catalog import describe
from models.load import LoadedModel, load
from tasks.events import Event, Finished
from tasks.jobs import ChatJob, Message
from tests.models.cards import OtherCard, Scripted, UsualCosts, chat, ids_of, text_of

TEMPLATE = Path("demo/chat/chat_template.jinja")


@pytest.fixture
def engine(card: OtherCard, packages: Mapping[str, Path], tmp_path: Path) -> Iterator[LoadedModel]:
    """The golden model with most context, behind the template of Qwen3."""
    package = shutil.copytree(packages["wide"], tmp_path / "wide")
    shutil.copyfile(TEMPLATE, package / "qwen3_tokenizer" / "chat_template.jinja")
    config = package / "qwen3_tokenizer" / "tokenizer_config.json"
    config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")
    loaded = load(card, describe(package), lambda done, total: None)
    loaded._context.costs = UsualCosts()
    yield loaded
    loaded.close()


def job(*said: str, **options: bool) -> ChatJob:
    """Turns of user and assistant, in this order."""
    messages = tuple(Message("assistant" if at % 2 else "user", text) for at, text in enumerate(said))
    return replace(chat(max_tokens=8, temperature=0.0, options=options), messages=messages)


def run(engine: LoadedModel, asked: ChatJob, told: list[int] | None = None) -> list[Event]:
    return list(engine.stream(asked, told or [], Scripted()))


def cached(events: list[Event]) -> tuple[int, int]:
    """(tokens of the prompt that were there, tokens of the prompt)."""
    assert isinstance(events[-1], Finished)
    return events[-1].usage.cached_tokens, events[-1].usage.prompt_tokens


def prompt(engine: LoadedModel, asked: ChatJob) -> list[int]:
    return list(engine._tokenizer.prompt(asked.messages, asked.template_options).ids)


def test_a_second_turn_finds_the_first_and_its_answer(engine: LoadedModel) -> None:
    told = list(engine._tokenizer.encode("good"))
    run(engine, job("hi"), told)
    second = job("hi", "good", "no")
    events = run(engine, second)
    assert cached(events) == (len(prompt(engine, job("hi"))) + len(told), len(prompt(engine, second)))
    assert engine._context.cache.slots == 1
    engine._context.cache.forget()
    assert text_of(run(engine, second)) == text_of(events)


def test_thoughts_dropped_from_history_cost_only_what_stands_behind_them(engine: LoadedModel) -> None:
    first = job("hi")
    first = replace(first, sampling=replace(first.sampling, max_tokens=30))
    told = list(engine._tokenizer.encode("<think>well</think>ab"))
    run(engine, first, told)
    second = job("hi", "<think>well</think>abc", "no")
    events = run(engine, second)
    assert cached(events) == (len(prompt(engine, first)), len(prompt(engine, second)))
    assert engine._context.cache.slots == 1
    engine._context.cache.forget()
    assert text_of(run(engine, second)) == text_of(events)


def test_a_prompt_that_closes_its_thoughts_at_once_is_found_up_to_there(engine: LoadedModel) -> None:
    first = job("hi", enable_thinking=False)
    events = run(engine, first)
    second = job("hi", "abc", "no", enable_thinking=False)
    found, _ = cached(run(engine, second))
    assert found == len(prompt(engine, job("hi")))
    again = run(engine, first)
    assert text_of(again) == text_of(events)


def test_two_conversations_take_turns_without_losing_rows(engine: LoadedModel) -> None:
    one, two = job("first of all"), job("but then")
    fresh = {}
    for asked in (one, two):
        engine._context.cache.forget()
        fresh[asked.messages] = text_of(run(engine, asked))
    engine._context.cache.forget()
    run(engine, one)
    run(engine, two)
    for asked in (one, two, one):
        events = run(engine, asked)
        found, length = cached(events)
        assert found == length - 1
        assert text_of(events) == fresh[asked.messages]


def test_an_attempt_that_goes_on_in_the_same_process_counts_only_the_prompt_as_cached(
    engine: LoadedModel,
) -> None:
    asked = job("hi")
    told = ids_of(run(engine, asked))[:4]
    found, length = cached(run(engine, asked, told))
    assert found == length


def test_what_is_given_back_is_told_and_the_last_conversation_stays(
    card: OtherCard, engine: LoadedModel
) -> None:
    size_bytes, free_bytes = engine.size_bytes, card.memory().free_bytes
    for text in ("one", "two", "three"):
        run(engine, job(text))
    assert engine.size_bytes > size_bytes
    assert engine.trim() > 0
    assert engine.trim() == 0
    assert engine.size_bytes == size_bytes
    assert card.memory().free_bytes == free_bytes
    found, length = cached(run(engine, job("three")))
    assert found == length - 1
    engine.close()
