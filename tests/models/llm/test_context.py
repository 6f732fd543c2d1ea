"""Conversations in slots on the card: nothing computed twice, and no bit of difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.axcl.memory import AxclBuffer
from hardware.card import KvWrite, Prefill
from hardware.errors import CardTimeout, OutOfCardMemory
from hardware.virtual.memory import VirtualBuffer
from models.llm.cache import ConversationCache
from models.llm.context import Context, Ready
from models.llm.network import Network
from models.llm.package import find_package
from tasks.engines import Verdict
from tests.golden.llm import ANSWERS, MODELS, QWEN3
from tests.models.cards import OtherAxclCard, OtherCard, Scripted, UsualCosts, result

GOLDEN = json.loads(ANSWERS.read_text(encoding="utf-8"))["models"]
WAYS: dict[str, dict[str, Any]] = {
    "in place": {},
    "in place, torn": {"torn": True},
    "copied": {"kv_write": KvWrite.COPY},
    "copied, torn": {"kv_write": KvWrite.COPY, "torn": True},
    "token by token": {"prefill": Prefill.DECODE},
}
LONGEST = {model.name: GOLDEN[model.name][-1] for model in MODELS}

Open = Callable[..., Context]


@pytest.fixture
def open_context(packages: Mapping[str, Path], open_card: Callable[..., OtherCard]) -> Iterator[Open]:
    """``open_context(name, slots=…, torn=…, kv_write=…)``: a model on a card of its own."""
    opened: list[Context] = []

    def open_(
        name: str = "qwen3", *, slots: int = 3, reserve_bytes: int = 0, torn: bool = False, **traits: Any
    ) -> Context:
        card = open_card(torn=torn).change(**traits)
        network = result(Network.load(card, find_package(packages[name])))
        opened.append(Context(network, ConversationCache(network, slots, reserve_bytes), UsualCosts()))
        return opened[-1]

    yield open_
    for context in opened:
        context.cache.close()
        context._network.close()


@pytest.fixture
def context(open_context: Open) -> Context:
    return open_context()


def bring(context: Context, prompt: list[int], told: list[int] | None = None, **signals: Any) -> Ready:
    ready = context.bring(prompt, told or [], Scripted(**signals))
    assert isinstance(ready, Ready)
    return ready


def answer(context: Context, prompt: list[int], count: int) -> tuple[list[int], int]:
    """``count`` greedy tokens after ``prompt``, and how many of its tokens were cached."""
    ready = bring(context, prompt)
    logits, tokens = ready.logits, []
    for _ in range(count):
        tokens.append(int((logits.astype(np.uint32) << 16).view(np.float32).argmax()))
        logits = context.step(tokens[-1], Scripted())
    return tokens, ready.cached_tokens


def rows(context: Context, count: int) -> NDArray[np.uint8]:
    """The first ``count`` rows of K and V of all layers, as they stand on the card."""
    cache = context._network.cache
    views = [view for layer in range(len(cache.keys)) for view in cache.history(layer, count)]
    data = [view.buffer.read(view.offset_bytes, view.size_bytes) for view in views]
    return np.frombuffer(b"".join(data), np.uint8)


def executes(context: Context) -> int:
    return context._network.card.counters.executes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LONGEST)
def test_golden_answers_stay_when_the_prompt_comes_in_turns_cut_anywhere(
    name: str, way: str, open_context: Open
) -> None:
    context = open_context(name, **WAYS[way])
    prompt, wanted = LONGEST[name]["prompt"], LONGEST[name]["answer"]
    for cut in (1, 13):
        context.cache.forget()
        bring(context, prompt[:cut])
        tokens, cached = answer(context, prompt, len(wanted))
        assert (tokens, cached) == (wanted, cut)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LONGEST)
def test_a_slot_is_the_same_after_others_were_used_and_after_it_was_lost(
    name: str, way: str, open_context: Open
) -> None:
    context = open_context(name, slots=2, **WAYS[way])
    case, *others = [GOLDEN[name][at] for at in (-1, 0, 1)]
    wanted = case["answer"]
    assert answer(context, case["prompt"], len(wanted)) == (wanted, 0)
    assert answer(context, others[0]["prompt"], 12) == (others[0]["answer"], 0)
    assert context.cache.slots == 2
    assert answer(context, case["prompt"], len(wanted)) == (wanted, len(case["prompt"]) - 1)
    for other in (others[1], others[0]):  # two strangers after one another take both slots
        assert answer(context, other["prompt"], 12) == (other["answer"], 0)
    assert answer(context, case["prompt"], len(wanted)) == (wanted, 0)


@pytest.mark.parametrize("name", LONGEST)
def test_every_way_to_compute_a_prompt_leaves_the_same_bytes(name: str, open_context: Open) -> None:
    prompt = LONGEST[name]["prompt"]
    ways = []
    for way in WAYS.values():
        context = open_context(name, **way)
        ready = bring(context, prompt)
        ways.append((rows(context, len(prompt)), ready.logits.copy()))
    context = open_context(name, slots=1)
    for cut in (3, len(prompt) - 2):
        context.cache.forget()
        bring(context, prompt[:cut])
        bring(context, [*prompt[: cut - 1], 5])
        ready = bring(context, prompt)
        assert ready.cached_tokens == cut - 1
        ways.append((rows(context, len(prompt)), ready.logits.copy()))
    for kv, logits in ways[1:]:
        assert np.array_equal(kv, ways[0][0])
        assert np.array_equal(logits, ways[0][1])


def test_a_prompt_asked_again_costs_one_step(context: Context) -> None:
    prompt = LONGEST["qwen3"]["prompt"]
    bring(context, prompt)
    before = executes(context)
    assert bring(context, prompt).cached_tokens == len(prompt) - 1
    assert executes(context) - before == QWEN3.layers + 1


def test_a_second_turn_runs_only_what_is_new(context: Context) -> None:
    prompt = LONGEST["qwen3"]["prompt"][:10]
    tokens, _ = answer(context, prompt, 6)
    before = executes(context)
    turn = [*prompt, *tokens, 9, 8, 7, 6, 5]
    assert bring(context, turn).cached_tokens == len(prompt) + len(tokens)
    # The five new tokens go through in one chunk: all layers once, and the last graph.
    assert executes(context) - before == QWEN3.layers + 1


def test_thoughts_that_a_template_drops_cost_only_the_rows_behind_them(context: Context) -> None:
    question = LONGEST["qwen3"]["prompt"][:20]
    thoughts, reply = [50, 51, 52, 53], [60, 61]
    bring(context, question)
    for token in [*thoughts, *reply]:
        context.step(token, Scripted())
    history = [*question, *reply, 70, 71, 72]
    ready = bring(context, history)
    assert ready.cached_tokens == len(question)
    assert context.cache.slots == 1
    fresh = ready.logits.copy()
    context.cache.forget()
    assert np.array_equal(bring(context, history).logits, fresh)


def test_what_conversations_share_is_copied_and_both_stay(context: Context) -> None:
    system = LONGEST["qwen3"]["prompt"][:15]
    first, second = ([*system, *range(start, start + 12)] for start in (100, 200))
    bring(context, first)
    assert bring(context, second).cached_tokens == len(system)
    assert context.cache.slots == 2
    assert bring(context, first).cached_tokens == len(first) - 1
    assert bring(context, second).cached_tokens == len(second) - 1


@pytest.mark.parametrize("fails_at", range(6))
def test_a_prefill_that_breaks_off_leaves_only_rows_that_were_computed(
    context: Context, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = LONGEST["qwen3"]["prompt"]
    wanted = bring(context, prompt).logits.copy()
    known = rows(context, len(prompt))
    bring(context, prompt[:5])
    card = context._network.card
    execute, calls = card.execute, 0

    def failing(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > fails_at:
            raise CardTimeout("no answer")
        execute(*args, **options)

    other = [*prompt[:5], *reversed(prompt)][: len(prompt)]
    with monkeypatch.context() as patched:
        patched.setattr(card, "execute", failing)
        with pytest.raises(CardTimeout):
            bring(context, other)
    length = context.cache.length
    assert length < len(other)
    ready = bring(context, other)
    assert ready.cached_tokens <= length
    context.cache.forget()
    assert np.array_equal(bring(context, prompt).logits, wanted)
    assert np.array_equal(rows(context, len(prompt)), known)


def test_a_copy_that_fails_leaves_both_conversations_as_they_are_known(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = LONGEST["qwen3"]["prompt"][:15]
    first, second, third = ([*system, *range(start, start + 12)] for start in (100, 200, 250))
    for prompt in (first, second, third):
        bring(context, prompt)
    fourth = [*system, *range(150, 162)]
    wanted = bring(context, fourth).logits.copy()  # takes the slot of the first
    with monkeypatch.context() as patched:

        def failing(*args: Any) -> None:
            raise CardTimeout("no answer")

        for kind in (VirtualBuffer, AxclBuffer):
            patched.setattr(kind, "copy_from", failing)
        with pytest.raises(CardTimeout):
            bring(context, first)
    assert bring(context, third).cached_tokens == len(third) - 1
    ready = bring(context, fourth)
    assert ready.cached_tokens == len(fourth) - 1
    assert np.array_equal(ready.logits, wanted)
    assert bring(context, second).cached_tokens == len(system)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_job_that_is_cancelled_while_it_reads_keeps_what_it_has_read(context: Context, at: int) -> None:
    prompt = LONGEST["qwen3"]["prompt"]
    whole = bring(context, prompt).logits.copy()
    context.cache.forget()
    verdict = context.bring(prompt, [], Scripted(at=at, verdict=Verdict.CANCEL))
    assert verdict is Verdict.CANCEL
    length = context.cache.length
    assert 0 < length < len(prompt)
    ready = bring(context, prompt)
    assert ready.cached_tokens == length
    assert np.array_equal(ready.logits, whole)


@pytest.mark.parametrize("cut", [0, 1, 5, 11])
def test_what_was_told_before_an_interruption_is_repeated_from_what_is_left(
    context: Context, cut: int
) -> None:
    case = LONGEST["qwen3"]
    told = case["answer"][:cut]
    answer(context, case["prompt"], cut + 1)
    cached = bring(context, case["prompt"], told)
    again = cached.logits.copy()
    context.cache.forget()
    fresh = bring(context, case["prompt"], told)
    assert np.array_equal(fresh.logits, again)
    assert cached.cached_tokens <= len(case["prompt"])
    assert int((again.astype(np.uint32) << 16).view(np.float32).argmax()) == case["answer"][cut]


def test_slots_are_made_when_wanted_and_given_back_when_asked(context: Context) -> None:
    card = context._network.card
    free_bytes = card.memory().free_bytes
    strangers = [[at, *range(5, 20)] for at in (101, 102, 103, 104)]
    for prompt in strangers:
        bring(context, prompt)
    assert context.cache.slots == 3
    kept = rows(context, len(strangers[-1]))
    size_bytes = context.cache.size_bytes
    assert 0 < size_bytes <= free_bytes - card.memory().free_bytes
    assert context.cache.trim() == size_bytes
    assert card.memory().free_bytes == free_bytes
    assert context.cache.slots == 1
    assert np.array_equal(rows(context, len(strangers[-1])), kept)
    assert bring(context, strangers[-1]).cached_tokens == len(strangers[-1]) - 1
    assert bring(context, strangers[0]).cached_tokens == 0
    assert context.cache.slots == 2


def test_no_slot_is_made_of_memory_that_is_to_stay_free(open_context: Open) -> None:
    context = open_context(reserve_bytes=7040 << 20)
    for first in (101, 102):
        assert bring(context, [first, *range(5, 20)]).cached_tokens == 0
    assert context.cache.slots == 1


def test_memory_in_pieces_makes_no_slot_and_no_error(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = context._network.card
    free_bytes = card.memory().free_bytes
    allocate, calls = card.allocate, 0

    def scarce(size_bytes: int) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OutOfCardMemory("not in one piece")
        return allocate(size_bytes)

    monkeypatch.setattr(card, "allocate", scarce)
    bring(context, [101, *range(5, 20)])
    bring(context, [102, *range(5, 20)])
    assert calls == 3
    assert context.cache.slots == 1
    assert card.memory().free_bytes == free_bytes


def test_every_call_into_the_card_is_announced(context: Context) -> None:
    card = context._network.card
    assert isinstance(card, OtherCard | OtherAxclCard)
    signals = card.guard = Scripted()
    for first in (101, 102):
        assert isinstance(context.bring([first, *range(5, 30)], [], signals), Ready)
        context.step(7, signals)
    card.guard = None
    assert signals.calls >= 8
