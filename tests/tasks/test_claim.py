from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings
from tasks import events, keys, ownership, signals
from tasks.cancel import cancel
from tasks.claim import claimed
from tasks.engines import Verdict
from tasks.errors import CardGone, CardUnavailable, ContextTooLong, Shutdown
from tasks.events import Failed, Loading, Queued, Started
from tasks.jobs import ChatJob, JobId
from tasks.ownership import Owner, take_card
from tasks.submit import submit_many
from tests.tasks.conftest import Accept
from tests.tasks.factory import (
    DONE,
    abandon,
    await_verdict,
    delta,
    field,
    journal_of,
    make_job,
    run_to_end,
    until,
)


def _go_wrong(error: Exception) -> None:
    raise error


async def test_a_job_runs_and_its_record_tells_of_it(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    assert run_to_end(job, owner, Loading("tiny", 1, 2), delta("Hel", 5), delta("lo", 6, 7))
    told = journal_of(store, job)
    assert told[:3] == [Queued(0), Started(1, "c0"), Loading("tiny", 1, 2)]
    assert told[-1] == DONE
    assert "".join(event.text for event in told if isinstance(event, events.TextDelta)) == "Hello"
    assert (field(store, job, "state"), field(store, job, "text")) == ("succeeded", "Hello")
    assert field(store, job, "progress") == "3 10 tokens"
    assert 0 < store.pttl(keys.journal(job.submission.id)) <= 3_600_000
    assert store.hget(keys.COUNTS, "chat") == b"0"
    for index in (keys.READY, keys.LEASES, keys.queue("chat.tiny")):
        assert store.zcard(index) == 0
    assert store.hexists(keys.RATES, "chat.tiny")


async def test_of_many_deliveries_of_each_job_one_wins(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    roomy = settings.model_copy(update={"queue": QueueSettings(chat_cap=200)})
    batch = [make_job() for _ in range(200)]
    await submit_many(astore, batch, roomy)
    owners = [take_card(f"c{i}", store, roomy) for i in range(4)]

    def deliver(card: Owner) -> list[JobId]:
        return [job.submission.id for job in batch if run_to_end(job, card)]

    with ThreadPoolExecutor(4) as pool:
        won = [job_id for wins in pool.map(deliver, owners) for job_id in wins]
    assert len(won) == len(set(won)) == 200
    assert store.hget(keys.COUNTS, "chat") == b"0"
    for job in batch:
        told = journal_of(store, job)
        assert sum(events.is_terminal(event) for event in told) == 1
        assert sum(isinstance(event, Started) for event in told) == 1


async def test_a_message_for_no_job_or_an_ended_one_is_swallowed(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    await cancel(astore, job.submission.id)
    before = journal_of(store, job)
    assert not run_to_end(job, owner)
    assert not run_to_end(make_job(), owner)
    assert journal_of(store, job) == before


async def test_a_running_job_is_not_run_by_a_second_delivery(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        assert not run_to_end(job, take_card("c1", store, owner.settings))
        mine.append(DONE)
    assert field(store, job, "attempt") == "1"


async def test_a_stale_worker_can_neither_append_nor_end(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as stale:
        assert stale is not None
        heir = take_card("c0", store, owner.settings)
        stale.append(delta("from the grave", 1))
        await_verdict(stale, Verdict.LOST)
        assert run_to_end(job, heir, delta("alive", 2))
        ended = journal_of(store, job)
        stale.append(DONE)
    assert journal_of(store, job) == ended
    assert field(store, job, "text") == "alive"
    assert [type(event).__name__ for event in ended] == [
        "Queued",
        "Started",
        "Queued",
        "Started",
        "TextDelta",
        "Finished",
    ]


async def test_a_redis_that_lost_its_data_asks_for_a_new_owner(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    store.delete(keys.epoch("c0"))
    with pytest.raises(Shutdown):
        run_to_end(job, owner)
    assert ownership.forgotten.is_set()
    assert journal_of(store, job) == [events.Queued(0)]
    assert run_to_end(job, take_card("c0", store, owner.settings))


async def test_a_claim_of_the_same_process_voids_its_earlier_one(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    from tasks import scripts

    job = await accept()
    abandon(job, owner)
    old = (job.submission.id, owner.epoch, 1)
    assert scripts.run(store, "give_back", *old, "shutdown", 1000, 1) == b"queued"
    abandon(job, owner)
    before = journal_of(store, job)
    assert scripts.run(store, "append", *old, 1, "", events.encode(delta("stale", 1))) == 0
    assert scripts.run(store, "beat", *old, 1000, 1, 1000, keys.hold("c0"), keys.ease("c0")) == [0]
    assert scripts.run(store, "finish", *old, "succeeded", events.encode(DONE), 1000, 1, 0) == 0
    assert scripts.run(store, "give_back", *old, "shutdown", 1000, 1) == b"lost"
    assert journal_of(store, job) == before
    assert field(store, job, "state") == "running"


async def test_a_process_whose_card_was_taken_over_claims_nothing(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    take_card("c0", store, owner.settings)
    assert not run_to_end(job, owner)
    assert field(store, job, "state") == "queued"


async def test_the_next_owner_of_the_card_may_claim_at_once(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    abandon(job, owner)
    heir = take_card("c0", store, owner.settings)
    assert (field(store, job, "state"), field(store, job, "strikes")) == ("queued", "1")
    assert run_to_end(job, heir)
    assert field(store, job, "attempt") == "2"


async def test_a_new_owner_of_one_card_leaves_the_others_alone(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    abandon(job, owner)
    take_card("c1", store, owner.settings)
    assert (field(store, job, "state"), field(store, job, "strikes")) == ("running", "0")


async def test_a_job_that_kills_every_worker_ends_after_its_strikes(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    for _ in range(owner.settings.queue.max_strikes):
        assert field(store, job, "state") == "queued"
        abandon(job, owner)
        owner = take_card("c0", store, owner.settings, 'was ended by "SIGSEGV" in executé')
    assert field(store, job, "state") == "failed"
    last = journal_of(store, job)[-1]
    assert isinstance(last, Failed)
    assert last.code == "worker_lost"
    assert last.message.endswith('; the last time it was ended by "SIGSEGV" in executé')
    assert events.decode(field(store, job, "error") or "") == last
    assert not run_to_end(job, owner)
    assert store.hget(keys.COUNTS, "chat") == b"0"


async def test_a_later_attempt_knows_what_was_said(accept: Accept, owner: Owner, store: redis.Redis) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as first:
        assert first is not None
        first.append(delta("one ", 1, 2))
        until(lambda: len(journal_of(store, job)) == 3)
        heir = take_card("c0", store, owner.settings)
        await_verdict(first, Verdict.LOST)
    with claimed(job.submission.id, heir) as second:
        assert second is not None
        assert second.emitted == (1, 2)
        second.append(delta("two", 3))
        second.append(DONE)
    assert field(store, job, "text") == "one two"
    assert field(store, job, "progress") == "3 10 tokens"


async def test_errors_fit_for_clients_are_told_as_they_are(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner):
        _go_wrong(ContextTooLong("too long", param="messages"))
    assert journal_of(store, job)[-1] == Failed("context_length_exceeded", "too long", "messages")
    assert field(store, job, "state") == "failed"


async def test_a_bug_is_told_as_an_id_that_the_log_knows(
    accept: Accept, owner: Owner, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner):
        _go_wrong(ZeroDivisionError("the secret is 42"))
    last = journal_of(store, job)[-1]
    assert isinstance(last, Failed)
    assert last.code == "internal_error"
    assert "secret" not in last.message
    assert last.message.split()[-1] in caplog.text


async def test_an_engine_that_ends_without_a_result_is_a_bug(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.append(delta("half", 1))
    last = journal_of(store, job)[-1]
    assert isinstance(last, Failed)
    assert last.code == "internal_error"
    assert field(store, job, "text") == "half"


async def test_trouble_after_the_last_word_changes_nothing(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.append(DONE)
        mine.append(delta("more", 9))
    assert journal_of(store, job)[-1] == DONE
    assert field(store, job, "state") == "succeeded"


async def test_shutdown_gives_the_job_back_without_a_strike(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()

    def run_until_stopped() -> None:
        with claimed(job.submission.id, owner) as mine:
            assert mine is not None
            mine.append(delta("so far", 1))
            signals.stopping.set()
            mine.signals.between_steps()

    with pytest.raises(Shutdown):
        run_until_stopped()
    signals.stopping.clear()
    assert journal_of(store, job)[-2:] == [delta("so far", 1), Queued(1, "shutdown")]
    assert (field(store, job, "state"), field(store, job, "strikes")) == ("queued", "0")
    assert store.zcard(keys.LEASES) == 0
    assert run_to_end(job, owner)


async def test_a_given_back_job_keeps_its_place(accept: Accept, owner: Owner, store: redis.Redis) -> None:
    first, second = await accept(), await accept()
    with pytest.raises(KeyboardInterrupt), claimed(first.submission.id, owner):
        raise KeyboardInterrupt
    waiting: list[bytes] = store.zrange(keys.queue("chat.tiny"), 0, -1)  # type: ignore[assignment]
    assert [job_id.decode() for job_id in waiting] == [first.submission.id, second.submission.id]


async def test_claiming_needs_an_owner(accept: Accept) -> None:
    job = await accept()
    with pytest.raises(RuntimeError, match="become_owner"), claimed(job.submission.id):
        pass


async def test_a_record_of_another_version_fails_and_the_queue_goes_on(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    store.hset(keys.job(job.submission.id), "job", '{"kind": "hologram"}')
    assert not run_to_end(job, owner)
    assert field(store, job, "state") == "failed"
    assert isinstance(journal_of(store, job)[-1], Failed)


async def test_a_lost_card_gives_the_job_back_without_a_strike_until_it_is_too_often(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    for attempt in range(1, owner.settings.queue.max_card_losses + 1):
        with pytest.raises(CardGone):
            _lose_card(job, owner)
        assert journal_of(store, job)[-1] == Queued(attempt, "card_lost")
        assert field(store, job, "state") == "queued"
    _lose_card(job, owner)
    failed = journal_of(store, job)[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "card_unavailable"
    assert field(store, job, "strikes") == "0"


def _lose_card(job: ChatJob, owner: Owner) -> None:
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        raise CardUnavailable("the card left the bus")


async def test_a_process_ended_for_its_cards_sake_is_no_strike(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    abandon(job, owner)
    store.hset(keys.job(job.submission.id), "excused", 1)
    owner = take_card("c0", store, owner.settings)
    assert field(store, job, "strikes") == "0"
    abandon(job, owner)
    take_card("c0", store, owner.settings)
    assert field(store, job, "strikes") == "1"
