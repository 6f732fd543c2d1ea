"""``/v1/files`` and ``/v1/batches`` as the official SDK uses them, over a real server."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.types import Batch
from PIL import Image

from tests.api.conftest import Served
from tests.api.support import StandIn, ask, until

CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"


@pytest.fixture
def sdk(served: Served, bulk_worker: StandIn) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0, timeout=20.0) as made:
        yield made


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def line(custom_id: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def submit(sdk: OpenAI, endpoint: str, *lines: dict[str, Any], **more: Any) -> Batch:
    file = sdk.files.create(file=("requests.jsonl", jsonl(*lines)), purpose="batch")
    wanted: Any = {"endpoint": endpoint, "completion_window": "24h", **more}
    return sdk.batches.create(input_file_id=file.id, **wanted)


def ended(sdk: OpenAI, batch: Batch) -> Batch:
    return reaching(sdk, batch, lambda status: status in ("completed", "failed", "expired", "cancelled"))


def reaching(sdk: OpenAI, batch: Batch, is_it: Callable[[str], bool], within_s: float = 20.0) -> Batch:
    deadline = time.monotonic() + within_s
    while not is_it(batch.status):
        assert time.monotonic() < deadline, f"it is {batch.status}"
        time.sleep(0.02)
        batch = sdk.batches.retrieve(batch.id)
    return batch


def answers(sdk: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a file by their ``custom_id``."""
    assert file_id is not None
    lines = [json.loads(each) for each in sdk.files.content(file_id).text.splitlines()]
    assert len({each["id"] for each in lines}) == len(lines)
    return {each["custom_id"]: each for each in lines}


def test_chats_come_and_go_as_files(sdk: OpenAI) -> None:
    asked = [line(f"row {n}", CHAT, ask(f"say answer |{n}")) for n in range(5)]
    batch = submit(sdk, CHAT, *asked, line("bad", CHAT, ask("lost")), metadata={"for": "me"})
    assert batch.status == "validating"
    batch = ended(sdk, batch)
    assert (batch.status, batch.model, batch.metadata) == ("completed", "tiny-chat", {"for": "me"})
    assert counts(sdk, batch) == (6, 5, 1)
    told = answers(sdk, batch.output_file_id)
    assert set(told) == {f"row {n}" for n in range(5)}
    for n in range(5):
        response = told[f"row {n}"]["response"]
        assert (response["status_code"], told[f"row {n}"]["error"]) == (200, None)
        assert response["body"]["choices"][0]["message"]["content"] == f"answer {n}"
        job = response["request_id"]
        assert response["body"]["id"] == "chatcmpl-" + job.removeprefix("job_")
    [(custom_id, bad)] = answers(sdk, batch.error_file_id).items()
    assert (custom_id, bad["response"]["status_code"], bad["error"]) == ("bad", 500, None)
    assert bad["response"]["body"]["error"]["code"] == "worker_lost"
    assert batch.usage is not None
    assert batch.usage.output_tokens == 10
    moments = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert all(moments)
    assert moments == sorted(moments)  # type: ignore[type-var]
    assert batch.expires_at == batch.created_at + 86_400
    assert sdk.files.retrieve(batch.output_file_id or "").purpose == "batch_output"
    assert [each.id for each in sdk.batches.list()] == [batch.id]


def test_pictures_do_too(sdk: OpenAI) -> None:
    batch = submit(
        sdk,
        IMAGES,
        line("two", IMAGES, {"prompt": "a", "size": "64x64", "n": 2, "seed": 7}),
        line("one", IMAGES, {"prompt": "b", "response_format": "url"}),
    )
    batch = ended(sdk, batch)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    told = answers(sdk, batch.output_file_id)
    pictures = told["two"]["response"]["body"]["data"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(each["b64_json"]))).size for each in pictures]
    assert sizes == [(64, 64), (64, 64)]
    assert told["one"]["response"]["body"]["data"][0]["url"].startswith("http://127.0.0.1:")


def test_a_line_at_fault_fails_all(sdk: OpenAI) -> None:
    batch = submit(
        sdk,
        CHAT,
        line("a", CHAT, ask("hi")),
        line("b", CHAT, ask("hi", temperature=9)),
        line("a", CHAT, ask("hi")),
        line("c", CHAT, {**ask("hi"), "model": "nobody"}),
        line("d", IMAGES, ask("hi")),
        line("e", CHAT, ask("hi", stream=True)),
    )
    batch = ended(sdk, batch)
    assert (batch.status, batch.output_file_id, batch.in_progress_at) == ("failed", None, None)
    assert batch.errors is not None
    assert batch.errors.data is not None
    found = [(each.line, each.code, each.param) for each in batch.errors.data]
    assert found == [
        (2, "invalid_value", "body.temperature"),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "model_not_found", "body.model"),
        (5, "mismatched_url", "url"),
        (6, "unsupported_value", "body.stream"),
    ]
    sdk.files.delete(batch.input_file_id)


def test_cancelling_leaves_what_was_answered(sdk: OpenAI, bulk_worker: StandIn) -> None:
    batch = submit(sdk, CHAT, *[line(f"row {n}", CHAT, ask("slow 20")) for n in range(300)])
    reaching(sdk, batch, lambda status: status == "in_progress")
    until(lambda: counts(sdk, batch)[1] > 0, 10)
    bulk_worker.pause()
    batch = ended(sdk, sdk.batches.cancel(batch.id))
    assert (batch.status, bool(batch.cancelling_at)) == ("cancelled", True)
    done, given_up = answers(sdk, batch.output_file_id), answers(sdk, batch.error_file_id)
    assert done.keys() | given_up.keys() == {f"row {n}" for n in range(300)}
    assert counts(sdk, batch) == (300, len(done), len(given_up))
    assert {each["error"]["code"] for each in given_up.values()} == {"batch_cancelled"}
    assert sdk.batches.cancel(batch.id) == batch


def counts(sdk: OpenAI, batch: Batch) -> tuple[int, int, int]:
    found = sdk.batches.retrieve(batch.id).request_counts
    assert found is not None
    return found.total, found.completed, found.failed
