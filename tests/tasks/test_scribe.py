from __future__ import annotations

import asyncio
import time

import redis

from config.groups import QueueSettings
from config.settings import Settings
from tasks import claim, journal, keys
from tasks.claim import claimed
from tasks.events import Alternative, Loading, ReasoningDelta, TextDelta, TokenLogprob, ToolCall
from tasks.ownership import Owner
from tests.tasks.conftest import Accept
from tests.tasks.factory import DONE, delta, journal_of, until


def _slow_owner(owner: Owner, settings: Settings, coalesce_ms: int) -> Owner:
    slow = settings.model_copy(update={"queue": QueueSettings(coalesce_ms=coalesce_ms)})
    return Owner(owner.card, owner.epoch, owner.redis, slow)


async def test_the_first_token_goes_out_at_once_and_later_ones_together(
    accept: Accept, owner: Owner, store: redis.Redis, settings: Settings
) -> None:
    job = await accept()
    with claimed(job.submission.id, _slow_owner(owner, settings, 200)) as mine:
        assert mine is not None
        began = time.monotonic()
        mine.append(delta("a", 1))
        until(lambda: len(journal_of(store, job)) == 3)
        assert time.monotonic() - began < 0.1
        for i in range(2, 6):
            mine.append(delta("b", i))
        # No further call: a pending delta must not wait for the engine's next token.
        until(lambda: len(journal_of(store, job)) == 4)
        assert time.monotonic() - began >= 0.19
        mine.append(DONE)
    assert journal_of(store, job)[3] == TextDelta("bbbb", (2, 3, 4, 5))


async def test_what_is_no_text_goes_out_at_once_behind_the_text_before_it(
    accept: Accept, owner: Owner, store: redis.Redis, settings: Settings
) -> None:
    job = await accept()
    with claimed(job.submission.id, _slow_owner(owner, settings, 1000)) as mine:
        assert mine is not None
        mine.append(delta("a", 1))
        mine.append(delta("b", 2))
        mine.append(Loading("tiny", 1, 2))
        until(lambda: Loading("tiny", 1, 2) in journal_of(store, job))
        mine.append(delta("c", 3))
        mine.append(DONE)
    entries = journal.read(store, job.submission.id)
    assert journal.token_ids(entries) == (1, 2, 3)
    kinds = [entry.event.type for entry in entries]
    assert kinds.index("loading") == len(kinds) - 3


async def test_neighbours_of_one_kind_are_joined_and_the_order_stays(
    accept: Accept, owner: Owner, store: redis.Redis, settings: Settings
) -> None:
    job = await accept()
    scores = [TokenLogprob(Alternative(each, (), -1.0)) for each in "yz"]
    call = ToolCall(0, "call_1", "add", "{}", (6,))
    with claimed(job.submission.id, _slow_owner(owner, settings, 1000)) as mine:
        assert mine is not None
        mine.append(ReasoningDelta("a", (1,)))
        until(lambda: len(journal_of(store, job)) == 3)
        for event in (
            ReasoningDelta("b", (2,)),
            ReasoningDelta("c", (3,)),
            TextDelta("y", (4,), (scores[0],)),
            TextDelta("z", (5,), (scores[1],)),
            call,
        ):
            mine.append(event)
        until(lambda: call in journal_of(store, job))
        mine.append(DONE)
    said = journal_of(store, job)[2:-1]
    assert said == [
        ReasoningDelta("a", (1,)),
        ReasoningDelta("bc", (2, 3)),
        TextDelta("yz", (4, 5), tuple(scores)),
        call,
    ]
    assert journal.token_ids(journal.read(store, job.submission.id)) == (1, 2, 3, 4, 5, 6)


async def test_a_delta_without_ids_is_never_written_without_the_one_that_has_them(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.append(ReasoningDelta("half", ()))
        mine.append(Loading("tiny", 1, 2))
        mine.append(ReasoningDelta("a thought", ()))
        await asyncio.sleep(0.1)
        assert [event.type for event in journal_of(store, job)[2:]] == ["reasoning_delta", "loading"]
        mine.append(delta("and text", 1))
        until(lambda: len(journal_of(store, job)) == 6)
        assert journal_of(store, job)[4:] == [ReasoningDelta("a thought", ()), delta("and text", 1)]
        mine.append(ToolCall(0, "call_1", "add", "{}", ()))
        mine.append(DONE)
    assert [event.type for event in journal_of(store, job)[6:]] == ["tool_call", "finished"]


async def test_appending_costs_the_engine_no_round_trip(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        began = time.monotonic()
        for i in range(1000):
            mine.append(delta("x", i))
            mine.signals.between_steps()
        assert time.monotonic() - began < 0.5
        mine.append(DONE)
    assert journal.token_ids(journal.read(store, job.submission.id)) == tuple(range(1000))


async def test_a_write_repeated_after_a_lost_reply_is_written_once(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    from tasks import events, scripts

    job = await accept()
    assert claim._take(owner, job.submission.id) is not None
    one, two = (events.encode(delta(text, 1)) for text in "ab")
    for batch in ([one], [one], [one, two], [one, two]):
        assert scripts.run(store, "append", job.submission.id, owner.epoch, 1, 1, "", *batch) == 1
    assert journal_of(store, job)[2:] == [delta("a", 1), delta("b", 1)]


async def test_a_claim_repeated_after_a_lost_reply_is_the_same_claim(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    from tasks import scripts

    job = await accept()
    args = (job.submission.id, "c0", owner.epoch, keys.epoch("c0"), 20000, "nonce", 10000, 1000, 60000)
    first = scripts.run(store, "claim", *args)
    assert scripts.run(store, "claim", *args) == first
    assert scripts.run(store, "claim", *args[:5], "other", *args[6:]) == [b"taken"]
    assert len(journal_of(store, job)) == 2
