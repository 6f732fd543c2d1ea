"""Batches that are files: their states, their ends, and what stays until then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from config.groups import LimitSettings, QueueSettings
from config.settings import Settings
from tasks import batches, bulks, documents, keys, scripts
from tasks.bulks import Bulk, BulkState, NewFile, Opened, Order
from tasks.documents import DocumentStore, Dropped, Kept, Purpose, new_document_id
from tasks.jobs import ChatJob, JobClass
from tasks.ownership import Owner
from tasks.retention import LEFTOVER_S, Retention
from tasks.submit import BatchClosed, submit_many
from tests.tasks.factory import field, make_job, run_to_end

ORDER = Order("/v1/chat/completions", "24h", "http://hearth", 3600.0)
ME = "anonymous"
LETTERS = st.text("qrsfce-", max_size=12)


async def a_file(
    client: redis.asyncio.Redis, settings: Settings, data: bytes = b"{}\n", keep_s: float = 60.0
) -> str:
    document_id = new_document_id()
    files = DocumentStore(settings.data_dir)
    file = files.begin(document_id)
    file.write(data)
    files.settle(document_id, file)
    files.abandon(file)
    about = {"owner": ME, "name": "in.jsonl", "purpose": Purpose.BATCH, "size_bytes": len(data)}
    kept = await documents.keep(client, document_id, keep_s=keep_s, settings=settings, **about)  # type: ignore[arg-type]
    assert kept is Kept.KEPT
    return document_id


async def a_bulk(client: redis.asyncio.Redis, settings: Settings, bulk_id: str = "batch_1") -> Bulk:
    opened = await bulks.open_bulk(client, bulk_id, ME, await a_file(client, settings), ORDER, settings)
    assert opened is Opened.OPENED
    return await read(client, bulk_id)


async def read(client: redis.asyncio.Redis, bulk_id: str = "batch_1") -> Bulk:
    found = await bulks.fetch(client, bulk_id)
    assert found is not None
    return found


async def with_jobs(client: redis.asyncio.Redis, settings: Settings, count: int = 2) -> list[ChatJob]:
    jobs = [make_job(job_class=JobClass.BATCH, batch="batch_1") for _ in range(count)]
    await bulks.note_lines(client, "batch_1", [1] * count, "tiny")
    await submit_many(client, jobs, settings)
    return jobs


@given(st.lists(st.integers(1, 4), max_size=6), st.data())
def test_every_request_counts_once(sizes: list[int], data: st.DataObject) -> None:
    letters = data.draw(st.text("qrsfce-", min_size=sum(sizes), max_size=sum(sizes)))
    counts = bulks.tally(sizes, letters)
    parts = list(bulks.parts(sizes, letters))
    assert "".join(parts) == letters
    assert counts.total == len(sizes)
    assert counts.completed == sum(set(part) == {"s"} for part in parts)
    assert counts.failed == sum(bool(set(part) & set("fce-")) for part in parts)


@given(LETTERS)
def test_a_bulk_is_over_when_no_job_is_alive(letters: str) -> None:
    rank = bulks.last_alive(letters)
    assert (rank is None) == (not set(letters) & {"q", "r"})
    assert rank is None or (letters[rank] in "qr" and not set(letters[rank + 1 :]) & {"q", "r"})


@given(LETTERS, st.booleans())
def test_how_a_bulk_ends(letters: str, was_cancelled: bool) -> None:
    times = {BulkState.CANCELLING: 1} if was_cancelled else {}
    bulk = Bulk("b", ME, BulkState.FINALIZING, ORDER, "file-1", 0, 1, times)
    end = bulks.end_of(bulk, letters)
    assert end.is_terminal
    assert (end is BulkState.CANCELLED) == was_cancelled
    assert (end is BulkState.EXPIRED) == ("e" in letters and not was_cancelled)


async def test_from_its_file_to_its_files(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, owner: Owner
) -> None:
    bulk = await a_bulk(astore, settings)
    assert (bulk.state, bulk.order, bulk.sizes) == (BulkState.VALIDATING, ORDER, ())
    for job in await with_jobs(astore, settings):
        assert (await read(astore)).state is BulkState.IN_PROGRESS
        run_to_end(job, owner)
    assert await bulks.states(astore, bulk.id) == "ss"
    output, error = new_document_id(), new_document_id()
    assert await bulks.finalize(astore, bulk.id, output, error)
    assert await bulks.finalize(astore, bulk.id, "file-other", "file-other")
    bulk = await read(astore)
    assert (bulk.state, bulk.output_id, bulk.error_id) == (BulkState.FINALIZING, output, error)
    made = [NewFile("output", "out.jsonl", 5, 3600.0)]
    assert await bulks.close(astore, bulk, BulkState.COMPLETED, settings, files=made)
    assert not await bulks.close(astore, bulk, BulkState.COMPLETED, settings, files=made)
    bulk = await read(astore)
    assert (bulk.state, bulk.output_id, bulk.error_id) == (BulkState.COMPLETED, output, None)
    assert await bulks.unfinished(astore) == []
    kept = await documents.fetch(astore, output, ME)
    assert kept is not None
    assert (kept.purpose, kept.name, kept.size_bytes) == (Purpose.BATCH_OUTPUT, "out.jsonl", 5)
    assert store.get(keys.DOCUMENT_BYTES) == b"8"


async def test_it_is_given_jobs_once_and_none_when_cancelled(
    astore: redis.asyncio.Redis, settings: Settings
) -> None:
    await a_bulk(astore, settings)
    await with_jobs(astore, settings)
    with pytest.raises(BatchClosed):
        await with_jobs(astore, settings)
    await a_bulk(astore, settings, "batch_2")
    await batches.cancel(astore, "batch_2", settings)
    with pytest.raises(BatchClosed):
        await submit_many(astore, [make_job(batch="batch_2")], settings)
    assert await bulks.states(astore, "batch_2") == ""
    bulk = await read(astore, "batch_2")
    assert (bulk.state, bulk.was_cancelled) == (BulkState.CANCELLING, True)


async def test_its_jobs_cancelled_in_whatever_way_it_is_cancelling(
    astore: redis.asyncio.Redis, settings: Settings
) -> None:
    await a_bulk(astore, settings)
    await with_jobs(astore, settings)
    await batches.cancel(astore, "batch_1", settings)
    assert (await read(astore)).state is BulkState.CANCELLING
    assert await bulks.states(astore, "batch_1") == "cc"
    assert await bulks.finalize(astore, "batch_1", "file-1", "file-2")
    assert not await bulks.stop(astore, "batch_1")


async def test_what_it_needs_stays_until_its_end(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, owner: Owner
) -> None:
    bulk = await a_bulk(astore, settings)
    [job] = await with_jobs(astore, settings, 1)
    run_to_end(job, owner)
    late_ms = 1e15
    queue = QueueSettings(retention_bytes=1)
    retention = Retention(store, settings.model_copy(update={"queue": queue}), now_s=lambda: late_ms / 1000)
    store.zadd(keys.FILED, {job.submission.id: 1})
    picture = settings.data_dir / "artifacts" / "ab" / "abc.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"much too much")
    store.hset(keys.FILES, "artifacts/ab/abc.png", 1)
    assert retention.retire(late_ms) == []
    forgotten, _ = retention.sweep()
    assert forgotten == []
    files = DocumentStore(settings.data_dir)
    assert await documents.drop(astore, bulk.input_id, files) is Dropped.NEEDED
    assert files.path(bulk.input_id).read_bytes() == b"{}\n"
    assert field(store, job, "state") == "succeeded"
    await bulks.finalize(astore, bulk.id, new_document_id(), new_document_id())
    await bulks.close(astore, await read(astore), BulkState.COMPLETED, settings)
    assert retention.retire(late_ms) == [job.submission.id]
    assert await documents.drop(astore, bulk.input_id, files) is Dropped.DROPPED
    assert not files.path(bulk.input_id).exists()


async def test_files_have_their_time(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    now_s = 10**9
    short, long = await a_file(astore, settings, keep_s=1.0), await a_file(astore, settings, keep_s=99_999.0)
    store.zadd(keys.DOCUMENTS, {short: now_s * 1000 - 1, long: now_s * 1000 + 1})
    files = DocumentStore(settings.data_dir)
    stray, fresh = files.path(new_document_id()), files.path(new_document_id())
    for path, age_s in ((stray, 2 * LEFTOVER_S), (fresh, 0.0)):
        path.write_bytes(b"x")
        os.utime(path, (now_s - age_s, now_s - age_s))
    Retention(store, settings, now_s=lambda: now_s).sweep()
    assert {path.name for path in files.leftovers(1e12)} == {long, fresh.name}
    assert await documents.fetch(astore, short, ME) is None
    assert await documents.fetch(astore, long, ME) is not None
    assert store.get(keys.DOCUMENT_BYTES) == b"3"


async def test_a_file_whose_time_is_over_is_not_shown(
    astore: redis.asyncio.Redis, settings: Settings
) -> None:
    document_id = await a_file(astore, settings, keep_s=0.0)
    opened = await bulks.open_bulk(astore, "batch_1", ME, document_id, ORDER, settings)
    assert opened is Opened.NO_FILE
    assert await documents.fetch(astore, document_id, ME) is None
    assert (await documents.page(astore, ME, limit=9)).documents == ()


async def test_who_may_begin_a_bulk_with_what(astore: redis.asyncio.Redis, settings: Settings) -> None:
    mine = await a_file(astore, settings)
    assert await bulks.open_bulk(astore, "b", "somebody", mine, ORDER, settings) is Opened.NO_FILE
    assert await bulks.open_bulk(astore, "b", ME, "file-none", ORDER, settings) is Opened.NO_FILE
    few = settings.model_copy(update={"limits": LimitSettings(batches_per_key=1)})
    assert await bulks.open_bulk(astore, "b", ME, mine, ORDER, few) is Opened.OPENED
    assert await bulks.open_bulk(astore, "c", ME, mine, ORDER, few) is Opened.TOO_MANY


async def test_the_clock_moves_files_and_bulks_along(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    bulk = await a_bulk(astore, settings)
    before = await documents.fetch(astore, bulk.input_id, ME)
    assert before is not None
    wrong = (before.created_at_ms - 1000, before.created_at_ms + 1000)
    scripts.run(store, "restamp", 5_000_000, 1000, *wrong)
    after = await documents.fetch(astore, bulk.input_id, ME)
    assert after is not None
    assert after.expires_at_ms == before.expires_at_ms + 5_000_000
    assert store.zscore(keys.DOCUMENTS, bulk.input_id) == after.expires_at_ms
    assert (await read(astore)).expires_at_ms == bulk.expires_at_ms + 5_000_000


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    files = DocumentStore(tmp_path)
    document_id = new_document_id()
    file = files.begin(document_id)
    file.write(b"half")
    assert not files.path(document_id).exists()
    files.abandon(file)
    assert list((tmp_path / "files").iterdir()) == []
    for strange in ("file-1", "../x", "file-" + "0" * 39 + "/"):
        with pytest.raises(ValueError, match="not the id"):
            files.path(strange)
