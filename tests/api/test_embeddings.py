"""``/v1/embeddings``, native jobs of that kind, and lines of batches, over a worker that only measures."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import redis

from api.main import create_app
from api.openai.endpoints import ENDPOINTS, Asked, Ended
from api.terms import Terms
from config.settings import Settings
from tasks import keys, records
from tasks.board import Catalog
from tasks.jobs import EmbedJob, JobClass
from tests.api.support import PICTURES, TEXTS, TINY, StandIn, ask, publish

URL = "/v1/embeddings"
Answer = dict[str, Any]
Post = Callable[..., Awaitable[Answer]]


@pytest.fixture
def shelf(house: redis.Redis) -> redis.Redis:
    """A house that has an embedding model as well."""
    publish(house, TINY, PICTURES, TEXTS)
    return house


async def refused(client: httpx.AsyncClient, status: int, **body: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"model": "texts", "input": "hello", **body})
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


async def test_numbers_and_base64_are_the_same_float32(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn
) -> None:
    body = {"model": "texts", "input": ["hello", "you"]}
    told = await client.post(URL, json=body)
    assert told.status_code == 200
    assert told.headers["x-job-id"].startswith("job_")
    plain = told.json()
    assert plain == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [5, 0, 0.25]},
            {"object": "embedding", "index": 1, "embedding": [3, 1, 0.25]},
        ],
        "model": "texts",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    packed = (await client.post(URL, json={**body, "encoding_format": "base64"})).json()
    for each, other in zip(packed["data"], plain["data"], strict=True):
        assert base64.b64decode(each["embedding"]) == struct.pack("<3f", *other["embedding"])


async def test_without_an_embedding_model_one_is_told_how_to_add_one(
    client: httpx.AsyncClient, house: redis.Redis
) -> None:
    for model in ("text-embedding-3-small", "tiny-chat", "broken"):
        error = await refused(client, 404, model=model)
        assert (error["code"], error["param"], error["type"]) == (
            "model_not_found",
            "model",
            "not_found_error",
        )
        assert "no embedding model is installed here: put a package" in error["message"]
        assert "docs/packages.md" in error["message"]


async def test_a_broken_embedding_package_says_why(client: httpx.AsyncClient, house: redis.Redis) -> None:
    reason = "there is no tokenizer.json in it"
    broken = TEXTS.__class__(
        id="bge", kind="embed", directory="", size_bytes=1, created_at_s=0, problem=reason
    )
    publish(house, TINY, broken)
    assert reason in (await refused(client, 404, model="any"))["message"]
    assert (await refused(client, 400, model="bge"))["code"] == "model_unusable"


async def test_models_of_other_kinds_say_what_they_do_and_who_else_there_is(
    client: httpx.AsyncClient, shelf: redis.Redis
) -> None:
    error = await refused(client, 400, model="tiny-chat")
    assert error["message"] == "the model 'tiny-chat' answers chats; for embeddings there is texts"
    chat = await client.post("/v1/chat/completions", json=ask("hi", model="texts"))
    assert chat.status_code == 400
    told = chat.json()["error"]
    assert told["message"] == "the model 'texts' makes embeddings; to chat with there is tiny-chat"
    assert (await refused(client, 404, model="nobody"))["message"].startswith("there is no model 'nobody'")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": None}, "input", "a string, or a list of strings, not null"),
        ({"input": {}}, "input", "not an object"),
        ({"input": ""}, "input", "a string that is not empty"),
        ({"input": []}, "input", "a list that is not empty"),
        ({"input": ["a", ""]}, "input[1]", "not empty"),
        ({"input": ["a", 5]}, "input[1]", "a string, not a number"),
        ({"input": ["a"] * 2049}, "input", "at most 2048 texts; these are 2049"),
        ({"encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"dimensions": 1}, "dimensions", "vectors of 3 numbers, which may be cut to 2"),
        ({"prompt_name": "poem"}, "prompt_name", "it has query"),
        ({"model": ""}, "model", "a string that is not empty"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, shelf: redis.Redis, body: dict[str, Any], param: str, words: str
) -> None:
    error = await refused(client, 400, **body)
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize("ids", [[15339], [[15339, 1917]], [[]]])
async def test_token_ids_could_be_anybodys(client: httpx.AsyncClient, shelf: redis.Redis, ids: Any) -> None:
    error = await refused(client, 400, input=ids)
    assert (error["param"], error["code"]) == ("input", "unsupported_value")
    assert "check_embedding_ctx_length=False" in error["message"]


async def test_a_text_that_is_too_long_is_refused_in_openais_words(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn
) -> None:
    error = await refused(client, 400, input=["hello", "too long"])
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input[1]")


async def test_a_repeated_request_has_the_same_job(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn
) -> None:
    headers, body = {"Idempotency-Key": "one"}, {"model": "texts", "input": "hello"}
    first, again = [await client.post(URL, json=body, headers=headers) for _ in range(2)]
    assert first.headers["x-job-id"] == again.headers["x-job-id"]
    assert first.json() == again.json()
    kept = {**headers, "x-hearth-keep": "true", "Idempotency-Key": "two"}
    first = await client.post(URL, json=body, headers=kept)
    shelf.delete(keys.journal(first.headers["x-job-id"]))
    assert (await client.post(URL, json=body, headers=kept)).json() == first.json(), "from the record"


async def ended(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await client.get(url)).json()
        if job["ended_at"]:
            return job
        await asyncio.sleep(0.01)


async def test_a_native_job_has_its_vectors_at_an_address_of_their_own(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn
) -> None:
    worker.pause()
    body = {"kind": "embed", "input": ["hello", "you"], "metadata": {"shelf": "3"}}
    job = (await client.post("/v1/jobs", json=body)).json()
    assert (job["kind"], job["model"], job["queue"]) == ("embed", "texts", "batch.texts")
    early = await client.get(f"/v1/jobs/{job['id']}/embeddings")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "vectors_not_ready")
    worker.resume()
    job = await ended(client, job["urls"]["self"])
    assert job["progress"] == {"done": 2, "total": 2, "unit": "inputs"}
    (piece,) = job["output"]
    assert (piece["type"], piece["count"], piece["dimensions"]) == ("embeddings", 2, 3)
    assert job["urls"]["output"] == [piece["url"]]
    found = (await client.get(piece["url"])).json()
    assert [each["embedding"] for each in found["data"]] == [[5, 0, 0.25], [3, 1, 0.25]]
    packed = (await client.get(piece["url"], params={"encoding_format": "base64"})).json()
    assert base64.b64decode(packed["data"][1]["embedding"]) == struct.pack("<3f", 3, 1, 0.25)
    listed = (await client.get("/v1/jobs", params={"kind": "embed"})).json()
    assert [each["id"] for each in listed["data"]] == [job["id"]]


async def test_a_job_without_vectors_has_none_to_show(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn
) -> None:
    chat = (await client.post("/v1/jobs", json={**ask("hello"), "kind": "chat"})).json()
    failed = (await client.post("/v1/jobs", json={"kind": "embed", "input": "too long"})).json()
    for job in (chat, failed):
        await ended(client, job["urls"]["self"])
        answer = await client.get(f"/v1/jobs/{job['id']}/embeddings")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "vectors_not_found")


async def test_a_native_job_may_bring_the_models_own_ids(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn
) -> None:
    body = {"kind": "embed", "token_ids": [[2, 7, 3], [2, 3]], "class": "chat"}
    job = await ended(client, (await client.post("/v1/jobs", json=body)).json()["urls"]["self"])
    assert (job["queue"], job["usage"]["prompt_tokens"]) == ("chat.texts", 5)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": "a", "token_ids": [[1]]}, "token_ids"),
        ({"token_ids": [1]}, "token_ids[0]"),
        ({"token_ids": [[-1]]}, "token_ids[0]"),
        ({"token_ids": [[True]]}, "token_ids[0]"),
        ({"token_ids": []}, "token_ids"),
        ({"token_ids": [[1]], "prompt_name": "query"}, "prompt_name"),
        ({"input": "a", "grid": {"prompt_name": ["query", "poem"]}}, "grid.prompt_name[1]"),
        ({"input": "a", "class": "image"}, "class"),
    ],
)
async def test_what_is_wrong_with_a_native_job_is_named(
    client: httpx.AsyncClient, shelf: redis.Redis, body: dict[str, Any], param: str
) -> None:
    answer = await client.post("/v1/jobs", json={"kind": "embed", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_the_catalog_tells_what_it_makes(client: httpx.AsyncClient, shelf: redis.Redis) -> None:
    told = (await client.get("/v1/models/texts")).json()["hearth"]
    assert told["kind"] == "embed"
    assert told["embedding"] == {"dimensions": 3, "shorter": [2], "shortens": False, "prompts": ["query"]}
    assert (await client.get("/v1/models/tiny-chat")).json()["hearth"]["embedding"] is None


async def test_a_line_of_a_batch_is_what_the_route_would_say(
    client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn, settings: Settings
) -> None:
    shared = create_app(settings).state.context
    body = {"model": "texts", "input": ["hello", "you"], "encoding_format": "base64"}
    endpoint = ENDPOINTS[URL]
    terms = Terms("anonymous", JobClass.BATCH)
    (job,) = await endpoint.read(Asked(body, terms, Catalog(0, (TEXTS,)), shared))
    assert isinstance(job, EmbedJob)
    assert job.submission.job_class is JobClass.BATCH
    live = await client.post(URL, json=body, headers={"x-hearth-keep": "true"})
    record = await records.fetch(shared.redis, live.headers["x-job-id"])
    assert record is not None
    told = await endpoint.tell(Ended(body, [record], "http://hearth", shared))
    assert json.loads(json.dumps(told)) == live.json()
    await shared.redis.aclose()


async def test_ollamas_words(client: httpx.AsyncClient, shelf: redis.Redis, worker: StandIn) -> None:
    told = (await client.post("/api/embed", json={"model": "texts", "input": ["hello", "too long"]})).json()
    assert told["embeddings"] == [[5, 0, 0.25], [8, 1, 0.25]]
    assert told["model"] == "texts"
    assert told["prompt_eval_count"] == 13
    assert told["load_duration"] == 2_000_000
    assert told["total_duration"] >= told["queue_duration"] >= 0
    assert told["warnings"] == ["1 of them was cut"]
    older = (await client.post("/api/embeddings", json={"model": "texts:latest", "prompt": "you"})).json()
    assert older["embedding"] == [3, 0, 0.25]
    for route, field in (("/api/embed", "embeddings"), ("/api/embeddings", "embedding")):
        nothing = await client.post(route, json={"model": "texts", "keep_alive": -1})
        assert nothing.json()[field] == [], "a job that only brings the model"
    long = await client.post("/api/embed", json={"model": "texts", "input": "too long", "truncate": False})
    assert long.status_code == 400


async def said(client: httpx.AsyncClient, route: str, **body: Any) -> tuple[int, str]:
    answer = await client.post(route, json={"model": "texts:latest", **body})
    return answer.status_code, answer.json()["error"]


async def test_ollamas_client_is_told_how_to_add_one_as_well(
    client: httpx.AsyncClient, house: redis.Redis
) -> None:
    for route in ("/api/embed", "/api/embeddings"):
        status, words = await said(client, route, input="hello", prompt="hello")
        assert status == 404
        assert "no embedding model is installed" in words


async def test_what_ollamas_client_may_not_ask(client: httpx.AsyncClient, shelf: redis.Redis) -> None:
    assert await said(client, "/api/embed", input=[5]) == (400, "'input[0]' should be a string, not a number")
    assert "duration" in (await said(client, "/api/embed", input="a", keep_alive="soon"))[1]
    assert "answers chats" in (await said(client, "/api/embed", input="a", model="tiny-chat"))[1]
    status, words = await said(client, "/api/chat", messages=[{"role": "user", "content": "hi"}])
    assert status == 400
    assert "makes embeddings" in words


async def test_ollamas_lists_know_it(client: httpx.AsyncClient, shelf: redis.Redis) -> None:
    shown = (await client.post("/api/show", json={"model": "texts"})).json()
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["bert.embedding_length"] == 3
    names = [model["name"] for model in (await client.get("/api/tags")).json()["models"]]
    assert names == ["tiny-chat:latest", "texts:latest"]
    assert (await client.post("/api/pull", json={"model": "texts", "stream": False})).status_code == 200
