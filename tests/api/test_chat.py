"""A chat through the queue, in OpenAI's words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import redis

from api.openai.schemas import ChatCompletion
from config.settings import Settings
from tasks import board, keys
from tasks.board import Hold
from tasks.jobs import JobId
from tasks.records import fetch
from tests.api.conftest import client_of
from tests.api.support import CARD, StandIn, ask, chunks, comments, make, publish, until

CHAT = "/v1/chat/completions"


def _error(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_an_answer_has_openais_form(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(CHAT, json=ask("say one| two"))
    assert response.status_code == 200
    body = response.json()
    ChatCompletion.model_validate(body)
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "one two", "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 2
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert body["system_fingerprint"].endswith("-virtual")
    assert body["id"].removeprefix("chatcmpl-") == response.headers["x-job-id"].removeprefix("job_")
    assert response.headers["x-request-id"].startswith("req_")
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert response.headers["openai-version"] == "2020-10-01"


async def test_a_stream_follows_the_chunk_rules(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(
        CHAT, json=ask("slow 6", stream=True, stream_options={"include_usage": True})
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers
    *data, done = chunks(response.text)
    assert done == "[DONE]"
    assert response.text.endswith("data: [DONE]\n\n")
    told = [json.loads(chunk) for chunk in data]
    first, *text, finish, usage = told
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in text) == "0 1 2 3 4 5 "
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in (first, *text))
    assert finish["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6
    assert all(chunk["usage"] is None for chunk in (first, *text, finish))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in told}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in told)


async def test_what_is_only_known_at_the_end_is_warned_of_there(
    client: httpx.AsyncClient, worker: StandIn
) -> None:
    stream = await client.post(CHAT, json=ask(make({"say": "a"}), stream=True))
    assert "warning the end is near" in comments(stream.text)
    whole = await client.post(CHAT, json=ask(make({"say": "a"})))
    assert whole.headers["x-hearth-warnings"] == "the end is near"


async def test_without_asking_there_is_no_usage(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(CHAT, json=ask("say a", stream=True))
    assert all("usage" not in json.loads(chunk) for chunk in chunks(response.text)[:-1])


async def test_every_chunk_of_text_has_its_place_in_the_journal(
    client: httpx.AsyncClient, worker: StandIn
) -> None:
    response = await client.post(CHAT, json=ask("slow 4", stream=True))
    ids = [line for line in response.text.split("\n") if line.startswith("id: ")]
    assert len(ids) == len(set(ids)) >= 3


@pytest.mark.parametrize("text", ['\u2028\u2029\x85\r\n"\\', "日本語 \U0001f600", "<|im_end|>\x00\x7f"])
async def test_any_text_survives_the_stream(client: httpx.AsyncClient, worker: StandIn, text: str) -> None:
    response = await client.post(CHAT, json=ask(text, stream=True))
    told = [
        json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks(response.text)[:-1]
    ]
    assert "".join(told) == text
    whole = await client.post(CHAT, json=ask(text))
    assert whole.json()["choices"][0]["message"]["content"] == text


async def test_a_limit_ends_in_length(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(CHAT, json=ask("length"))
    assert response.json()["choices"][0]["finish_reason"] == "length"


async def test_what_only_the_tokenizer_can_tell_fails_the_job(
    client: httpx.AsyncClient, worker: StandIn
) -> None:
    response = await client.post(CHAT, json=ask("too long"))
    assert response.status_code == 400
    assert _error(response)["code"] == "context_length_exceeded"
    assert response.headers["x-job-id"].startswith("job_")
    stream = await client.post(CHAT, json=ask("too long", stream=True))
    assert stream.status_code == 200
    (only,) = chunks(stream.text)
    assert json.loads(only)["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_certainly_too_long_is_never_queued(
    client: httpx.AsyncClient, house: redis.Redis, stream: bool
) -> None:
    response = await client.post(CHAT, json=ask("x" * 5000, stream=stream))
    assert response.status_code == 400
    assert _error(response)["code"] == "context_length_exceeded"
    assert house.zcard(keys.JOBS) == 0


async def test_a_lost_worker_is_not_retried_by_itself(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(CHAT, json=ask("lost"))
    assert response.status_code == 500
    assert _error(response)["code"] == "worker_lost"
    assert response.headers["x-should-retry"] == "false"


async def test_models_go_by_their_aliases(client: httpx.AsyncClient, worker: StandIn) -> None:
    for name in ("tiny", "ORG/tiny-chat", "Tiny-Chat"):
        response = await client.post(CHAT, json=ask("say x", model=name))
        assert response.json()["model"] == "tiny-chat"


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("gpt-4o", 404, "model_not_found"),
        ("a\x00b", 404, "model_not_found"),
        ("x" * 100_000, 404, "model_not_found"),
        ("\U0001f600\n", 404, "model_not_found"),
        ("broken", 400, "model_unusable"),
        ("pictures", 400, "unsupported_value"),
    ],
)
async def test_a_model_that_cannot_answer_is_named(
    client: httpx.AsyncClient, model: str, status: int, code: str
) -> None:
    response = await client.post(CHAT, json=ask(model=model))
    assert response.status_code == status
    error = _error(response)
    assert (error["code"], error["param"]) == (code, "model")
    if status == 404:
        assert "tiny-chat" in error["message"]
        assert len(error["message"]) < 1000
    if model == "broken":
        assert "download it again" in error["message"]


async def test_before_the_first_scan_the_server_is_starting(settings: Settings, store: redis.Redis) -> None:
    async with client_of(settings) as client:
        for publish_empty in (False, True):
            if publish_empty:
                store.set(keys.CATALOG, board.encode(board.Catalog(1)))
            for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("POST", "/v1/jobs")):
                response = await client.request(method, path, json=ask())
                assert response.status_code == 503
                assert _error(response)["code"] == "starting"
                assert int(response.headers["retry-after"]) >= 1


async def test_a_full_queue_refuses(settings: Settings, house: redis.Redis) -> None:
    small = settings.model_copy(update={"queue": settings.queue.model_copy(update={"chat_cap": 2})})
    async with client_of(small) as client:
        for _ in range(2):
            assert (await client.post("/v1/jobs", json=ask())).status_code == 202
        response = await client.post(CHAT, json=ask(stream=True))
        assert response.status_code == 429
        assert _error(response)["code"] == "queue_full"
        assert 1 <= int(response.headers["retry-after"]) <= 120


async def test_a_redis_out_of_memory_is_not_our_fault(client: httpx.AsyncClient, house: redis.Redis) -> None:
    house.config_set("maxmemory", "1mb")
    try:
        response = await client.post(CHAT, json=ask())
    finally:
        house.config_set("maxmemory", "0")
    assert response.status_code == 503
    assert response.headers["retry-after"]


async def test_flex_waits_behind_everybody_else(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(CHAT, json=ask("say x", service_tier="flex"))
    assert response.json()["service_tier"] == "flex"
    job = (await client.get(f"/v1/jobs/{response.headers['x-job-id']}")).json()
    assert job["queue"] == "batch.tiny-chat"


async def test_what_had_no_effect_stands_in_a_header(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(CHAT, json=ask("say x", store=True, service_tier="scale"))
    told = response.headers["x-hearth-warnings"]
    assert "store" in told
    assert "service_tier scale" in told
    job = (await client.get(f"/v1/jobs/{response.headers['x-job-id']}")).json()
    assert len(job["warnings"]) == 2


async def test_the_same_key_gives_the_same_answer(client: httpx.AsyncClient, worker: StandIn) -> None:
    headers = {"Idempotency-Key": "one question"}
    first = await client.post(CHAT, json=ask("slow 2"), headers=headers)
    again = await client.post(CHAT, json=ask("slow 2"), headers=headers)
    assert again.json() == first.json()
    assert len(worker.seen) == 1
    other = await client.post(CHAT, json=ask("slow 3"), headers=headers)
    assert other.status_code == 409
    assert other.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_outlives_its_journal(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis, stream: bool
) -> None:
    headers = {"Idempotency-Key": "kept"}
    first = await client.post(CHAT, json=ask("say a|b", stream=stream), headers=headers)
    house.delete(keys.journal(first.headers["x-job-id"]))
    again = await client.post(CHAT, json=ask("say a|b", stream=stream), headers=headers)
    if stream:
        told = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks(again.text)[:-1]]
        assert told == [{"role": "assistant", "content": ""}, {"content": "ab"}, {}]
    else:
        assert again.json() == first.json()


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "tab\tbed"])
async def test_an_unfit_idempotency_key_is_refused(client: httpx.AsyncClient, key: str) -> None:
    response = await client.post(CHAT, json=ask(), headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert _error(response)["param"] == "Idempotency-Key"


async def test_who_waits_hears_his_place(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    worker.pause()
    for _ in range(2):
        await client.post("/v1/jobs", json=ask("say x"))
    waiting = asyncio.create_task(client.post(CHAT, json=ask("load", stream=True)))
    await asyncio.to_thread(until, lambda: house.zcard(keys.READY) == 3)
    hold = Hold("thermal", "the card is hot (81 °C)", 1)
    house.set(keys.hold(CARD), board.encode(hold))
    await asyncio.sleep(2.2)
    house.delete(keys.hold(CARD))
    worker.resume()
    response = await waiting
    assert response.headers["x-queue-position"] == "3"
    told = comments(response.text)
    assert told[0] == "queued position=3"
    assert any(line.startswith("held reason=thermal the card is hot") for line in told)
    assert [line for line in told if line.startswith("loading")] == [
        "loading 1/3",
        "loading 2/3",
        "loading 3/3",
    ]
    assert chunks(response.text)[-1] == "[DONE]"


async def test_silence_is_broken_by_signs_of_life(
    client: httpx.AsyncClient, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.stream.TICK_S", 0.05)
    monkeypatch.setattr("api.stream.KEEP_ALIVE_S", 0.2)
    response = await client.post(CHAT, json=ask("sleep 1", stream=True))
    assert 2 <= comments(response.text).count("keep-alive") <= 5
    assert chunks(response.text)[-1] == "[DONE]"


async def test_a_card_that_rests_says_so_within_the_stream(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    answering = asyncio.create_task(client.post(CHAT, json=ask("slow 60", stream=True)))
    await asyncio.to_thread(until, lambda: worker.seen)
    house.set(keys.hold(CARD), board.encode(Hold("thermal", "81 °C", 1)))
    journal = keys.journal(worker.seen[0])
    await asyncio.to_thread(until, lambda: "held" in str(house.xrange(journal)))
    house.delete(keys.hold(CARD))
    response = await answering
    told = comments(response.text)
    assert [line for line in told if not line.startswith("queued")] == [
        "held reason=thermal 81 °C",
        "resumed",
    ]
    text = [
        json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks(response.text)[:-1]
    ]
    assert "".join(text) == "".join(f"{n} " for n in range(60))


async def test_a_job_that_somebody_cancels_ends_its_answer(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    whole = asyncio.create_task(client.post(CHAT, json=ask("wait")))
    stream = asyncio.create_task(client.post(CHAT, json=ask("wait", stream=True)))
    await asyncio.to_thread(until, lambda: len(worker.seen) == 2)
    for job_id in worker.seen:
        assert (await client.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    refused = await whole
    assert refused.status_code == 409
    assert _error(refused)["code"] == "job_cancelled"
    assert refused.headers["x-should-retry"] == "false"
    last = json.loads(chunks((await stream).text)[-1])
    assert last["error"]["code"] == "job_cancelled"


async def test_a_job_past_its_deadline_ends_its_answer(settings: Settings, house: redis.Redis) -> None:
    short = settings.model_copy(update={"queue": settings.queue.model_copy(update={"chat_deadline_s": 0.2})})
    stand_in = StandIn(short, paused=True)
    stand_in.start()
    try:
        async with client_of(short) as client:
            waiting = asyncio.create_task(client.post(CHAT, json=ask()))
            await asyncio.to_thread(until, lambda: house.zcard(keys.READY))
            await asyncio.sleep(0.3)  # past the deadline, which counts from the submission
            stand_in.resume()
            response = await waiting
    finally:
        stand_in.stop()
    assert response.status_code == 504
    assert _error(response)["code"] == "deadline_exceeded"
    assert response.headers["x-should-retry"] == "false"


async def test_keep_makes_a_job_independent_of_its_readers(
    client: httpx.AsyncClient, worker: StandIn, settings: Settings, astore: Any
) -> None:
    for header, has_reader in (({"x-hearth-keep": "true"}, False), ({}, True)):
        response = await client.post(CHAT, json=ask("say x"), headers=header)
        record = await fetch(astore, JobId(response.headers["x-job-id"]))
        assert record is not None
        assert record.job.submission.has_reader is has_reader


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "/%00%ff/\u2028", 404, "unknown_url"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("PUT", "/health", 405, "method_not_allowed"),
        ("BREW", "/v1/jobs", 405, "method_not_allowed"),
    ],
)
async def test_unknown_paths_and_methods_are_told_in_the_envelope(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert _error(response)["code"] == code
    if status == 405:
        assert response.headers["allow"]


async def test_the_clients_request_id_is_kept_when_it_is_decent(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-ID": "trace-1.2:3"})
    assert response.headers["x-request-id"] == "trace-1.2:3"
    response = await client.get("/health", headers={"X-Request-ID": "a b\tc" * 99})
    assert response.headers["x-request-id"].startswith("req_")


async def test_what_nobody_foresaw_is_told_as_an_id(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("api.openai.chat.chat_jobs", explode)
    response = await client.post(CHAT, json=ask())
    assert response.status_code == 500
    error = _error(response)
    assert error["code"] == "internal_error"
    assert response.headers["x-request-id"] in error["message"]
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in caplog.text


async def test_without_redis_the_answer_is_503(settings: Settings, store: redis.Redis) -> None:
    publish(store)
    gone = settings.model_copy(update={"redis_url": type(settings.redis_url)("unix:///nowhere/redis.sock")})  # type: ignore[misc]
    async with client_of(gone) as client:
        for method, path in (
            ("GET", "/v1/models"),
            ("POST", CHAT),
            ("GET", "/v1/jobs"),
            ("GET", "/v1/queue"),
        ):
            response = await client.request(method, path, json=ask())
            assert response.status_code == 503
            assert _error(response)["code"] == "queue_unavailable"
            assert response.headers["retry-after"]
        assert (await client.get("/health")).status_code == 200
