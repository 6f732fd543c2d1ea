"""The corpus of the demo chat model: deterministic, split cleanly, rendered as the template does."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import jinja2
import pytest

from demo.chat import sums
from demo.chat.corpus import EXAMS, MAKERS, exam, talks
from demo.chat.dress import dressed
from demo.chat.facts import (
    NOVEL_FRAMES,
    facts,
    held_out,
    more_frames,
    more_offtopic_text,
    offtopic,
    phrases,
    smalltalk,
    trained,
)
from demo.chat.heldout import HeldOut
from demo.chat.talk import Split, Talk, answer, pieces, prompt, split_of
from demo.chat.tokenizer import build, grown
from demo.chat.tools import free_task

TEMPLATE = Path(sums.__file__).parent / "chat_template.jinja"


def messages(talk: Talk) -> list[dict[str, Any]]:
    """The turns before the last one, as a client would send them back."""
    sent: list[dict[str, Any]] = []
    for turn in talk.turns[:-1]:
        think = f"<think>\n{turn.think}\n</think>\n\n" if turn.think is not None else ""
        message: dict[str, Any] = {"role": turn.role, "content": think + turn.content}
        if turn.call:
            called = {"name": turn.call.name, "arguments": dict(turn.call.arguments)}
            message["tool_calls"] = [{"type": "function", "function": called}]
        sent.append(message)
    return sent


@cache
def template() -> jinja2.Template:
    """The chat template, set up as transformers does."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - text, not HTML
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def rendered(talk: Talk) -> str:
    """The talk through the chat template."""
    thinking = {} if talk.thinking else {"enable_thinking": False}
    return template().render(
        messages=messages(talk), tools=talk.tools, add_generation_prompt=True, **thinking
    )


def test_same_seed_gives_the_same_talks() -> None:
    first, again = list(islice(talks(5), 200)), list(islice(talks(5), 200))
    assert first == again
    assert first != list(islice(talks(6), 200))


def test_the_template_renders_what_training_saw() -> None:
    for talk in islice(talks(11), 300):
        assert rendered(talk) == prompt(talk)


def test_learned_pieces_are_the_answers_and_their_end_marks() -> None:
    for talk in islice(talks(12), 100):
        learned = [text for text, wanted in pieces(talk) if wanted]
        assert learned[-1] == answer(talk) + "<|im_end|>"
        assert not any("<|im_start|>" in text for text in learned)


@pytest.mark.parametrize("category", [*MAKERS, *EXAMS])
def test_every_category_has_held_out_talks_that_training_never_asks(category: str) -> None:
    asked = {prompt(talk) for talk in exam(category, 12, Split.TEST)}
    assert len(asked) >= 3
    assert asked == {prompt(talk) for talk in exam(category, 12, Split.TEST)}


def test_no_held_out_question_is_in_training_text() -> None:
    held = {name: {prompt(talk) for talk in exam(name, 40, Split.TEST)} for name in (*MAKERS, *EXAMS)}
    trained = {prompt(talk) for talk in islice(talks(1), 4000)}
    # A usual name is never told in that category, so nothing distinguishes its splits.
    shared = {name for name, asked in held.items() if asked & trained} - {"name unknown"}
    assert shared == set()


def test_wordings_belong_to_one_split_and_half_are_trained() -> None:
    for fact in (*facts(), *smalltalk()):
        sets = [set(phrases(fact, split)) for split in Split]
        assert sum(map(len, sets)) == len(set.union(*sets))
        assert 2 * len(sets[0]) >= len(set.union(*sets))


def test_no_wording_asks_for_two_facts() -> None:
    seen: dict[str, str] = {}
    for fact in (*facts(), *smalltalk()):
        for text in (*fact.do, *fact.what, *fact.ask, *fact.also, *fact.more):
            assert seen.setdefault(text.lower().strip("?!. "), fact.id) == fact.id
    refused = [text.lower().strip("?!. ") for text in (*offtopic().ask, *offtopic().near, *offtopic().also)]
    assert len(set(refused)) == len(refused)
    assert not set(refused) & set(seen)


@pytest.mark.parametrize(
    "text", ["How do I swap models?", "swapping a model, please", "what is swapped: models", "model swaps?"]
)
def test_other_dress_of_a_held_out_question_is_near_to_it(text: str) -> None:
    assert HeldOut(["swapping models", "is the queue full?"]).near(text)


@pytest.mark.parametrize("text", ["why does loading take long?", "how long is the queue?", "hello", ""])
def test_another_question_is_not_near(text: str) -> None:
    assert not HeldOut(["swapping models", "is the queue full?"]).near(text)


def test_spoken_wordings_near_a_held_out_one_are_not_trained() -> None:
    every = {text for fact in facts() for _, text in fact.spoken}
    used = {text for fact in facts() for _, text in trained(fact)} & every
    dropped = every - used
    assert not any(held_out().near(text) for text in used)
    assert dropped, "the filter dropped nothing, so this test sees nothing"
    assert len(used) > 3 * len(dropped)


def test_training_uses_no_novel_frame() -> None:
    frames = [frame for pair in NOVEL_FRAMES.values() for group in pair for frame in group]
    novel = re.compile("|".join(re.escape(frame).replace(r"\{\}", ".+") for frame in frames), re.IGNORECASE)
    whole = [text for fact in facts() for kind, text in fact.spoken if kind == "ask"]
    framed = [frame.format("a job") for group in more_frames() for frame in group]
    assert [text for text in (*whole, *framed) if novel.fullmatch(text)] == []


def test_dressing_makes_no_held_out_question_of_another() -> None:
    texts = [text for fact in facts() for kind, text in trained(fact) if kind == "ask"]
    far = [text for text in texts if not held_out().near(text)]
    made = {dressed(Random(seed), far[seed % len(far)], held_out()) for seed in range(4000)}
    assert not [text for text in made if held_out().near(text)]
    assert made.isdisjoint({talk.turns[-2].content for talk in exam("fact", 300, Split.TEST)}), "held out"


def test_tokens_spell_back_to_the_text_and_rare_words_stay_letters() -> None:
    tokenizer = build()
    text = 'repeat lantern "Lantern" LANTERN <think>\n47+38\n</think> größe'
    encoded = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text
    assert encoded.tokens[2:9] == list("lantern")


def test_a_grown_tokenizer_keeps_its_ids() -> None:
    small, text = build(700), "how do I cancel a job? repeat lantern"
    large = grown(small, 900)
    assert large.get_vocab_size() == 900
    assert small.get_vocab().items() <= large.get_vocab().items()
    assert large.decode(large.encode(text).ids) == text


@pytest.mark.parametrize(("a", "b"), [(47, 38), (99, 99), (0, 0), (5, 0), (100, 1)])
def test_scratchpads_end_in_the_digits_of_the_result(a: int, b: int) -> None:
    *columns, top = [int(line.split("=")[1]) for line in sums.add_steps(a, b).splitlines()]
    low = sum(column % 10 * 10**place for place, column in enumerate(columns))
    assert low + top * 10 ** len(columns) == a + b
    borrowed = [int(line.split("=")[1]) for line in sums.subtract_steps(a, b).splitlines()[1:]]
    assert sum(digit * 10**place for place, digit in enumerate(borrowed)) == abs(a - b)


def test_what_only_training_refuses_holds_nothing_held_out() -> None:
    off, asked = offtopic(), exam("refusal", 100, Split.TEST)
    trained = {prompt(talk) for talk in exam("refusal", 3000, Split.TRAIN)}
    assert not trained & {prompt(talk) for talk in asked}
    held = [t for texts in off.more_things.values() for t in texts if split_of(f"off:{t}") is not Split.TRAIN]
    assert held
    refused = {more_offtopic_text(Random(seed)) for seed in range(3000)}
    for frame in off.more_frames:
        before, _, after = frame.partition("{")
        filled = {f"{before}{thing}{after.partition('}')[2]}" for thing in held}
        assert not refused & filled


def test_a_free_tool_can_be_called_from_what_is_told() -> None:
    for seed in range(300):
        made = free_task(Random(seed))
        function = made.tool["function"]
        assert made.call.name == function["name"]
        assert set(made.call.arguments) == set(function["parameters"]["required"])
        assert made.noun in made.wish
        assert all(key in made.wish and str(value) in made.wish for key, value in made.call.arguments.items())
        assert made.noun in made.call.name.lower() or made.noun in function["description"].lower()
