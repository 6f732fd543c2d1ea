"""Batches that are files: what is refused, what waits, and that each of them comes to its end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from api.bulk import clerk, writing
from api.openai.endpoints import ENDPOINTS, Ended, Endpoint
from config.groups import LimitSettings, QueueSettings
from config.settings import Settings
from tasks import bulks, keys
from tasks.connection import connect
from tasks.documents import DocumentStore
from tasks.reaper import Reaper
from tests.api.conftest import client_of, serve
from tests.api.support import StandIn, ask, until

CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"
ENDS = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clerk, "LOOK_S", 0.02)
    monkeypatch.setattr(clerk, "AGAIN_S", 0.02)


def with_settings(settings: Settings, **groups: Any) -> Settings:
    return settings.model_copy(update=groups)


async def upload(client: httpx.AsyncClient, data: bytes, purpose: str = "batch") -> str:
    sent = await client.post("/v1/files", files={"file": ("a", data)}, data={"purpose": purpose})
    return str(sent.json()["id"])


def lines(*bodies: dict[str, Any], url: str = CHAT) -> bytes:
    return b"".join(
        json.dumps({"custom_id": f"row {n}", "method": "POST", "url": url, "body": body}).encode() + b"\n"
        for n, body in enumerate(bodies)
    )


async def submit(client: httpx.AsyncClient, data: bytes, endpoint: str = CHAT, **more: Any) -> dict[str, Any]:
    order = {"input_file_id": await upload(client, data), "endpoint": endpoint, "completion_window": "24h"}
    made = await client.post("/v1/batches", json={**order, **more})
    assert made.status_code == 200
    batch: dict[str, Any] = made.json()
    return batch


async def reached(client: httpx.AsyncClient, batch: dict[str, Any], *statuses: str) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while batch["status"] not in statuses:
            await asyncio.sleep(0.01)
            batch = (await client.get(f"/v1/batches/{batch['id']}")).json()
    return batch


async def answers(client: httpx.AsyncClient, file_id: str) -> dict[str, Any]:
    got = await client.get(f"/v1/files/{file_id}/content")
    return {each["custom_id"]: each for each in map(json.loads, got.text.splitlines())}


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"endpoint": "/v1/moderations"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"input_file_id": "file-none"}, 404, "input_file_id"),
        ({"input_file_id": 7}, 400, "input_file_id"),
        ({"metadata": {"a" * 65: "b"}}, 400, "metadata"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            400,
            "output_expires_after.seconds",
        ),
    ],
)
async def test_what_is_wrong_with_an_order_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], status: int, param: str
) -> None:
    order = {"input_file_id": await upload(client, b"{}"), "endpoint": CHAT, "completion_window": "24h"}
    answer = await client.post("/v1/batches", json={**order, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_a_file_for_something_else_is_refused(client: httpx.AsyncClient) -> None:
    file_id = await upload(client, b"{}", "user_data")
    order = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    answer = await client.post("/v1/batches", json=order)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_file_id")


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        (b"\x00\x01", "invalid_json_line", 1),
        (lines(ask(), ask(), ask(), ask()), "too_many_requests", None),
        (lines(ask("x" * 1500)), "request_too_large", 1),
        (lines(ask(), {**ask(), "model": "nobody"}), "model_not_found", 2),
        (lines({**ask(), "model": "pictures"}), "unsupported_value", 1),
    ],
)
async def test_a_file_that_will_not_do_fails(
    settings: Settings, house: redis.Redis, data: bytes, code: str, line: int | None
) -> None:
    limits = LimitSettings(batch_lines=3, body_bytes=1000, picture_body_bytes=1000)
    async with client_of(with_settings(settings, limits=limits)) as client:
        batch = await reached(client, await submit(client, data), *ENDS)
        assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("failed", None, None)
        assert batch["failed_at"] is not None
        [fault] = batch["errors"]["data"]
        assert (fault["code"], fault["line"]) == (code, line)
        assert house.zcard(keys.JOBS) == 0
        assert (await client.delete(f"/v1/files/{batch['input_file_id']}")).status_code == 200


async def test_of_a_thousand_faults_a_hundred_are_told(client: httpx.AsyncClient) -> None:
    batch = await reached(client, await submit(client, b"x\n" * 1000), *ENDS)
    assert len(batch["errors"]["data"]) == 100


async def test_more_jobs_than_the_queue_ever_holds_fail(settings: Settings, house: redis.Redis) -> None:
    queue = QueueSettings(batch_cap=3)
    async with client_of(with_settings(settings, queue=queue)) as client:
        data = lines({"prompt": "a", "n": 2}, {"prompt": "b", "n": 2}, url=IMAGES)
        batch = await reached(client, await submit(client, data, IMAGES), *ENDS)
        assert batch["errors"]["data"][0]["code"] == "too_many_requests"


async def test_a_batch_waits_for_room(settings: Settings, worker: StandIn, house: redis.Redis) -> None:
    worker.pause()
    queue = QueueSettings(batch_cap=3)
    async with client_of(with_settings(settings, queue=queue)) as client:
        first = await reached(client, await submit(client, lines(ask(), ask())), "in_progress")
        second = await submit(client, lines(ask(), ask()))
        await asyncio.to_thread(until, lambda: house.hexists(keys.bulk(second["id"]), "sizes"))
        seen = (await client.get(f"/v1/batches/{second['id']}")).json()
        assert (seen["status"], seen["request_counts"]["total"]) == ("validating", 2)
        used = await client.delete(f"/v1/files/{second['input_file_id']}")
        assert (used.status_code, used.json()["error"]["code"]) == (409, "file_in_use")
        worker.resume()
        for batch in (first, second):
            assert (await reached(client, batch, *ENDS))["status"] == "completed"


async def test_there_are_only_so_many_at_a_time(settings: Settings, worker: StandIn) -> None:
    worker.pause()
    limits = LimitSettings(batches_per_key=1)
    async with client_of(with_settings(settings, limits=limits)) as client:
        first = await submit(client, lines(ask()))
        order = {"input_file_id": first["input_file_id"], "endpoint": CHAT, "completion_window": "24h"}
        answer = await client.post("/v1/batches", json=order)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")


async def test_when_its_window_closes_there_is_what_was_answered(
    settings: Settings, worker: StandIn, house: redis.Redis
) -> None:
    worker.pause()
    told = with_settings(settings, queue=QueueSettings(lease_s=0.05))
    async with client_of(told) as client:
        batch = await reached(client, await submit(client, lines(*[ask("say yes")] * 9)), "in_progress")
        ids: Any = house.zrange(keys.batch(batch["id"]), 0, -1)
        house.zadd(keys.DEADLINES, dict.fromkeys(ids[1:], 1))
        with connect(told) as redis_of_the_monitor:
            reaper = Reaper(redis_of_the_monitor, told)
            until(lambda: reaper.beat() and house.zcard(keys.ENDED) == 8)
        worker.resume()
        batch = await reached(client, batch, *ENDS)
        assert (batch["status"], bool(batch["expired_at"])) == ("expired", True)
        assert batch["request_counts"] == {"total": 9, "completed": 1, "failed": 8}
        assert list(await answers(client, batch["output_file_id"])) == ["row 0"]
        errors = (await answers(client, batch["error_file_id"])).values()
        assert {each["error"]["code"] for each in errors} == {"batch_expired"}


async def test_a_window_that_closes_before_there_was_room_leaves_nothing(
    settings: Settings, house: redis.Redis
) -> None:
    house.delete(keys.CATALOG)  # it cannot be checked while nobody knows the models
    queue = QueueSettings(batch_deadline_s=0.001)
    async with client_of(with_settings(settings, queue=queue)) as client:
        batch = await reached(client, await submit(client, lines(ask())), *ENDS)
        assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("expired", None, None)


async def test_cancelled_before_it_was_checked_it_has_no_jobs(
    settings: Settings, house: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.delete(keys.CATALOG)  # it cannot be checked while nobody knows the models
    async with client_of(settings) as client:
        batch = await submit(client, lines(ask()))
        await client.post(f"/v1/batches/{batch['id']}/cancel")
        batch = await reached(client, batch, *ENDS)
        assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("cancelled", None, None)


async def test_a_cancel_that_was_broken_off_is_carried_on(settings: Settings, worker: StandIn) -> None:
    worker.pause()
    house = client_of(settings)
    async with house as client:
        batch = await reached(client, await submit(client, lines(ask("wait"), ask("wait"))), "in_progress")
        await asyncio.to_thread(until, lambda: batch["id"] in house.app.state.clerk._watched)
        await bulks.stop(house.app.state.context.redis, batch["id"])  # and there the process was killed
        assert (await reached(client, batch, *ENDS))["status"] == "cancelled"


async def test_its_jobs_are_ordinary_ones(client: httpx.AsyncClient, worker: StandIn) -> None:
    worker.pause()
    batch = await reached(client, await submit(client, lines(ask("hi"), ask("ho"))), "in_progress")
    listed = (await client.get(batch["hearth"]["jobs"])).json()["data"]
    assert sorted(each["custom_id"] for each in listed) == ["row 0", "row 1"]
    assert {each["queue"] for each in listed} == {"batch.tiny-chat"}
    assert (await client.get(batch["hearth"]["progress"])).json()["total"] == 2
    retried = await client.post(f"{batch['hearth']['progress']}/retry-failed")
    assert (retried.status_code, retried.json()["error"]["code"]) == (400, "unsupported_value")
    # Cancelled there it is cancelled here, and a job cancelled by itself is told as that.
    await client.post(f"{batch['hearth']['progress']}/cancel")
    assert (await reached(client, batch, *ENDS))["status"] == "cancelled"


async def test_a_job_cancelled_by_itself_is_a_failed_request(
    client: httpx.AsyncClient, worker: StandIn
) -> None:
    worker.pause()
    batch = await reached(client, await submit(client, lines(ask("hi"), ask("ho"))), "in_progress")
    job = (await client.get(batch["hearth"]["jobs"])).json()["data"][0]
    await client.post(job["urls"]["cancel"])
    worker.resume()
    batch = await reached(client, batch, *ENDS)
    assert batch["status"] == "completed"
    [(custom_id, told)] = (await answers(client, batch["error_file_id"])).items()
    assert (custom_id, told["response"]["status_code"]) == (job["custom_id"], 409)
    assert told["response"]["body"]["error"]["code"] == "job_cancelled"


async def test_what_is_full_or_broken_is_tried_again(
    client: httpx.AsyncClient, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = writing.write, [OSError(28, "full"), RuntimeError("a bug")]

    async def failing(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(*args)

    monkeypatch.setattr(writing, "write", failing)
    batch = await reached(client, await submit(client, lines(ask("say yes"))), *ENDS)
    assert (batch["status"], failures) == ("completed", [])


async def test_a_bug_costs_a_line_and_not_the_batch(
    client: httpx.AsyncClient, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ENDPOINTS[CHAT]

    async def tell(ended: Ended) -> dict[str, Any]:
        if ended.body["messages"][0]["content"] == "bad":
            raise ZeroDivisionError
        return await whole.tell(ended)

    monkeypatch.setitem(ENDPOINTS, CHAT, Endpoint(whole.read, tell))
    batch = await reached(client, await submit(client, lines(ask("good"), ask("bad"))), *ENDS)
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    [told] = (await answers(client, batch["error_file_id"])).values()
    assert told["response"]["body"]["error"]["code"] == "internal_error"

    async def read(_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setitem(ENDPOINTS, CHAT, Endpoint(read, tell))
    batch = await reached(client, await submit(client, lines(ask("good"))), *ENDS)
    assert [each["code"] for each in batch["errors"]["data"]] == ["internal_error"]


async def test_what_another_version_wrote_hides_nothing(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    worker.pause()
    strange, good = [await submit(client, lines(ask())) for _ in range(2)]
    house.hset(keys.bulk(strange["id"]), "state", "pondering")
    worker.resume()
    assert (await reached(client, good, *ENDS))["status"] == "completed"
    assert [each["id"] for each in (await client.get("/v1/batches")).json()["data"]] == [good["id"]]


async def test_a_file_that_was_damaged_ends_its_batch(
    client: httpx.AsyncClient, settings: Settings, worker: StandIn
) -> None:
    worker.pause()
    batch = await reached(client, await submit(client, lines(ask("hi"))), "in_progress")
    DocumentStore(settings.data_dir).path(batch["input_file_id"]).write_bytes(b"other\n")
    worker.resume()
    batch = await reached(client, batch, *ENDS)
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "file_not_found")


async def test_two_clerks_end_a_batch_once(
    settings: Settings, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where no lock keeps them apart."""

    @asynccontextmanager
    async def together(*_: Any) -> AsyncIterator[bool]:
        yield True

    monkeypatch.setattr(clerk, "_alone", together)
    async with client_of(settings) as client, client_of(settings) as other:
        for batch in [await submit(client, lines(*[ask(f"say {n}") for n in range(20)])) for _ in range(3)]:
            ended = await reached(other, batch, *ENDS)
            assert ended["status"] == "completed", ended
            told = await answers(client, ended["output_file_id"])
            assert [
                each["response"]["body"]["choices"][0]["message"]["content"] for each in told.values()
            ] == [str(n) for n in range(20)]
        listed = (await client.get("/v1/files")).json()["data"]
    on_disk = {path.name for path in DocumentStore(settings.data_dir).leftovers(1e12)}
    assert on_disk == {file["id"] for file in listed}
    assert len(listed) == 6


async def test_killed_while_its_file_is_written_a_batch_comes_to_its_end(
    settings: Settings, worker: StandIn, house: redis.Redis
) -> None:
    worker.pause()
    async with client_of(settings) as client:
        data = lines(*[{"prompt": "a", "seed": seed} for seed in range(3)], url=IMAGES)
        batch = await reached(client, await submit(client, data, IMAGES), "in_progress")
    # Its jobs end while no API is there to see it.
    worker.resume()
    until(lambda: house.zcard(keys.ENDED) == 3)
    # One comes, and is killed while it waits for the last of the pictures that it writes into the file.
    picture = last_picture(settings, house, batch["id"])
    aside = picture.rename(picture.with_suffix(".aside"))
    os.mkfifo(picture)
    killed_while_reading(settings, picture)
    aside.replace(picture)
    assert house.hget(keys.bulk(batch["id"]), "state") == b"finalizing"
    assert house.delete(keys.clerk(batch["id"])) == 1  # its lock, whose time would be over in some seconds
    async with client_of(settings) as client:
        batch = await reached(client, batch, *ENDS)
        told = await answers(client, batch["output_file_id"])
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert list(told) == ["row 0", "row 1", "row 2"]
    assert all(each["response"]["body"]["data"][0]["b64_json"] for each in told.values())


def last_picture(settings: Settings, house: redis.Redis, batch_id: str) -> Path:
    ids: Any = house.zrange(keys.batch(batch_id), -1, -1)
    output: Any = house.hget(keys.job(ids[0].decode()), "output")
    return settings.data_dir / str(json.loads(output)[0]["path"])


def killed_while_reading(settings: Settings, fifo: Path) -> None:
    """Start a server, and kill it when it reads from ``fifo``."""
    served = serve(settings)
    found: list[int] = []

    def is_read() -> bool:
        try:
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    try:
        until(is_read, 40)
    finally:
        served.process.kill()
        served.process.wait()
    os.close(found[0])
