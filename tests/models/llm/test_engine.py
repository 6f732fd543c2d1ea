"""Messages in, events out: limits, interruptions, and going on after them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from hardware.errors import CardTimeout
from models.llm.context import Ready
from models.load import LoadedModel
from tasks.engines import Verdict
from tasks.errors import CardUnavailable, ContextTooLong, InvalidJob, Shutdown, Unsupported
from tasks.events import Cancelled, Event, Expired, Finished, TextDelta
from tasks.jobs import ChatJob, FinishReason, Message
from tests.golden.llm import QWEN3
from tests.models.cards import OtherCard, Scripted, UsualCosts, chat, ids_of, text_of


def run(engine: LoadedModel, job: ChatJob, emitted: list[int] | None = None, **signals: Any) -> list[Event]:
    return list(engine.stream(job, emitted or [], Scripted(**signals)))


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_an_answer_is_deltas_and_one_end_that_counts_them(engine: LoadedModel) -> None:
    events = run(engine, chat(max_tokens=12, temperature=1.0))
    assert all(isinstance(event, TextDelta) for event in events[:-1])
    end = finished(events)
    assert end.reason is FinishReason.LENGTH
    assert end.usage.completion_tokens == len(ids_of(events)) == 12
    assert end.usage.prompt_tokens == 20
    assert 0 < end.timings.first_token_card_ms <= end.timings.first_token_ms
    assert end.timings.prefill_ms <= end.timings.first_token_ms
    assert end.warnings == ()


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(engine: LoadedModel) -> None:
    job = chat(max_tokens=16, temperature=1.5)
    assert ids_of(run(engine, job)) == ids_of(run(engine, job))
    other = replace(job, sampling=replace(job.sampling, seed=2))
    assert ids_of(run(engine, job)) != ids_of(run(engine, other))


def test_what_an_earlier_job_left_in_the_cache_changes_nothing(engine: LoadedModel) -> None:
    job = chat("again", max_tokens=10, temperature=0.0)
    first = ids_of(run(engine, job))
    run(engine, chat("something much longer!", temperature=1.0))
    assert ids_of(run(engine, job)) == first


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_an_answer_goes_on_from_any_cut_as_if_nothing_had_happened(
    engine: LoadedModel, temperature: float
) -> None:
    job = chat("resume", max_tokens=20, temperature=temperature, stop=("zz",))
    whole = run(engine, job)
    deltas = [event for event in whole if isinstance(event, TextDelta)]
    for cut in range(len(deltas) + 1):
        rest = run(engine, job, ids_of(deltas[:cut]))
        assert [event for event in rest if isinstance(event, TextDelta)] == deltas[cut:]
        assert finished(rest).reason is finished(whole).reason
        told, usage = finished(rest).usage, finished(whole).usage
        assert (told.prompt_tokens, told.completion_tokens) == (usage.prompt_tokens, usage.completion_tokens)


def test_a_replay_brings_back_every_bit_of_the_logits(engine: LoadedModel) -> None:
    job = chat("resume", max_tokens=20, temperature=0.0)
    prompt, ids = engine._tokenizer.prompt(job.messages, {}).ids, ids_of(run(engine, job))
    last = []
    for cut in (0, 1, 7, 19):
        ready = engine._context.bring(prompt, ids[:cut], Scripted())
        assert isinstance(ready, Ready)
        logits = ready.logits
        for token in ids[cut:-1]:
            logits = engine._context.step(token, Scripted())
        last.append(logits.copy())
    assert all(np.array_equal(last[0], other) for other in last[1:])


def test_a_replay_that_would_take_too_long_goes_by_chunks(card: OtherCard, engine: LoadedModel) -> None:
    job = chat("resume", max_tokens=20, temperature=0.0)
    told = ids_of(run(engine, job))[:17]
    costs = []
    engine._context.costs = usual = UsualCosts()
    for step_s in (0.001, 60.0):
        usual.known_step_s = step_s
        engine._context.cache.forget()
        before = card.counters.executes
        assert finished(run(engine, job, told)).usage.completion_tokens == 20
        costs.append(card.counters.executes - before)
    # 21 tokens asked and 17 told: three chunks and 17 steps, or the four chunks of the ladder and 6 steps.
    assert costs[0] - costs[1] == (3 + 17 - 4 - 6) * QWEN3.layers


def test_a_stop_string_ends_the_text_before_itself(engine: LoadedModel) -> None:
    job = chat(max_tokens=20, temperature=0.0)
    text = text_of(run(engine, job))
    stop = text[5:7]
    events = run(engine, replace(job, sampling=replace(job.sampling, stop=(stop,))))
    assert text_of(events) == text[: text.index(stop)]
    assert finished(events).reason is FinishReason.STOP


def test_an_attempt_that_had_told_its_stop_string_only_says_that_it_ended(
    card: OtherCard, engine: LoadedModel
) -> None:
    job = chat(max_tokens=20, temperature=0.0)
    stop = text_of(run(engine, job))[5:7]
    stopping = replace(job, sampling=replace(job.sampling, stop=(stop,)))
    events = run(engine, stopping)
    before = card.counters.copy()
    again = run(engine, stopping, ids_of(events))
    assert [type(event) for event in again] == [Finished]
    assert finished(again).reason is FinishReason.STOP
    assert card.counters == before


def test_last_words_told_by_a_lost_attempt_are_not_told_again(engine: LoadedModel) -> None:
    job = chat(max_tokens=20, temperature=0.0)
    ids = ids_of(run(engine, job))
    at = next(index for index in range(3, 20) if ids[index] not in ids[:index])
    engine._tokenizer.stop_ids = frozenset({ids[at]})
    # Everything said so far could be the beginning of this stop string, so it is held back until the end.
    said = text_of(run(engine, job))
    holding = replace(job, sampling=replace(job.sampling, stop=(said + "!",)))
    events = run(engine, holding)
    assert text_of(events) == said
    again = run(engine, holding, ids_of(events))
    assert [type(event) for event in again] == [Finished]
    assert finished(again).reason is FinishReason.STOP


def test_a_token_that_ends_the_turn_ends_the_answer_and_is_not_counted(engine: LoadedModel) -> None:
    job = chat(max_tokens=20, temperature=0.0)
    ids = ids_of(run(engine, job))
    at = next(index for index in range(3, 20) if ids[index] not in ids[:index])
    engine._tokenizer.stop_ids = frozenset({ids[at]})
    events = run(engine, job)
    assert ids_of(events) == ids[:at]
    assert finished(events).reason is FinishReason.STOP
    assert finished(events).usage.completion_tokens == at


def test_the_context_ends_an_answer_without_a_limit_at_its_last_row(engine: LoadedModel) -> None:
    usage = finished(run(engine, chat(temperature=0.0))).usage
    assert usage.prompt_tokens + usage.completion_tokens == engine.context == QWEN3.kv_length


def test_more_tokens_than_the_context_leaves_are_lowered_with_a_warning(engine: LoadedModel) -> None:
    events = run(engine, chat(temperature=0.0, max_tokens=1000))
    assert finished(events).usage.completion_tokens == 43
    assert finished(events).warnings == (
        "max_tokens was lowered from 1000 to 43: the prompt has 20 tokens and the context is 63",
    )


def test_a_prompt_that_cannot_fit_is_refused_before_the_card_is_touched(
    card: OtherCard, engine: LoadedModel
) -> None:
    before = card.counters.copy()
    with pytest.raises(ContextTooLong, match=r"66 tokens; the context of \S+ is 63") as refused:
        run(engine, chat("x" * 50))
    assert refused.value.param == "messages"
    assert card.counters == before


def test_a_prompt_that_leaves_room_for_one_token_gets_one(engine: LoadedModel) -> None:
    events = run(engine, chat("x" * 46, temperature=0.0))
    assert finished(events).usage.prompt_tokens == engine.context - 1
    assert finished(events).usage.completion_tokens == 1


def test_the_length_limit_usualno_extra_card_step(card: OtherCard, engine: LoadedModel) -> None:
    counts = []
    engine._context.costs = UsualCosts()
    for limit in (1, 2):
        engine._context.cache.forget()
        before = card.counters.executes
        run(engine, chat(max_tokens=limit, temperature=0.0))
        counts.append(card.counters.executes - before)
    assert counts == [3 * QWEN3.layers + 1, 4 * QWEN3.layers + 2]


def test_a_token_usualone_hidden_row_mask_and_index_up_and_one_row_of_logits_down(
    card: OtherCard, engine: LoadedModel
) -> None:
    run(engine, chat(max_tokens=5, temperature=0.0))
    marks = []
    for event in engine.stream(chat(max_tokens=6, temperature=1.0), [], Scripted()):
        if isinstance(event, TextDelta):
            marks.append((card.counters.copy(), len(event.token_ids)))
    for (before, _), (after, tokens) in pairwise(marks):
        up = QWEN3.hidden * 2 + (QWEN3.kv_length + 1) * 2 + 4
        assert after.h2d_bytes - before.h2d_bytes == up * tokens
        assert after.d2h_bytes - before.d2h_bytes == QWEN3.vocab * 2 * tokens
        assert after.d2d_bytes == before.d2d_bytes
        assert after.h2d_calls + after.d2h_calls - before.h2d_calls - before.d2h_calls == 4 * tokens
        assert after.executes - before.executes == (QWEN3.layers + 1) * tokens


def test_every_call_into_the_card_is_announced(card: OtherCard, engine: LoadedModel) -> None:
    signals = card.guard = Scripted()
    try:
        told = ids_of(list(engine.stream(chat(max_tokens=8, temperature=0.0), [], signals)))
        list(engine.stream(chat(max_tokens=12, temperature=0.0), told, signals))
    finally:
        card.guard = None
    assert signals.calls >= 16


@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_a_cancelled_job_ends_at_the_next_step_with_what_it_used(
    card: OtherCard, engine: LoadedModel, at: int
) -> None:
    events = run(engine, chat(max_tokens=30, temperature=0.0), at=at, verdict=Verdict.CANCEL)
    assert isinstance(events[-1], Cancelled)
    assert events[-1].usage is not None
    # Steps 1 and 2 lie between the three chunks of the prompt.
    assert events[-1].usage.completion_tokens == max(0, at - 2)


def test_an_expired_job_says_so(engine: LoadedModel) -> None:
    assert isinstance(run(engine, chat(max_tokens=30), at=4, verdict=Verdict.EXPIRE)[-1], Expired)


@pytest.mark.parametrize("at", [1, 5])
def test_a_job_that_is_somebody_elses_ends_in_silence(engine: LoadedModel, at: int) -> None:
    events = run(engine, chat(max_tokens=30, temperature=0.0), at=at, verdict=Verdict.LOST)
    assert all(isinstance(event, TextDelta) for event in events)


@pytest.mark.parametrize("at", [1, 5])
def test_shutdown_leaves_at_once_and_the_engine_still_serves(engine: LoadedModel, at: int) -> None:
    with pytest.raises(Shutdown):
        run(engine, chat(max_tokens=30, temperature=0.0), at=at, verdict=Shutdown)
    assert finished(run(engine, chat(max_tokens=3, temperature=0.0))).usage.completion_tokens == 3


def test_a_failing_card_becomes_a_job_error(
    card: OtherCard, engine: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(*args: object, **options: object) -> None:
        raise CardTimeout("no answer")

    monkeypatch.setattr(card, "execute", no_answer)
    with pytest.raises(CardUnavailable, match="no answer"):
        run(engine, chat())


def test_template_options_it_does_not_know_are_reported(engine: LoadedModel) -> None:
    end = finished(run(engine, chat(max_tokens=1, options={"enable_thinking": False})))
    assert end.warnings == ("the model's chat template does not know enable_thinking: it was ignored",)


def test_template_options_that_would_change_the_call_are_refused(engine: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="tokenize"):
        run(engine, chat(options={"tokenize": True}))


def test_a_template_that_refuses_the_messages_is_the_clients_error(engine: LoadedModel) -> None:
    engine._tokenizer._tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InvalidJob, match="roles must alternate"):
        run(engine, replace(chat(), messages=(Message("assistant", "me first"),)))
