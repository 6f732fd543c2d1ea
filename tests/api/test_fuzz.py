"""Whatever is sent, nothing breaks: no answer is a 5xx, and every refusal has the envelope's form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.openai.responses.schemas import ResponsesRequest
from api.openai.schemas import ChatRequest
from config.settings import Settings
from tests.api.conftest import ClientOf, client_of
from tests.api.support import ask

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELD = st.sampled_from(sorted(ChatRequest.model_fields))
CALL = st.fixed_dictionaries(
    {"id": st.just("c1") | JSON, "type": st.just("function") | JSON},
    optional={
        "function": st.fixed_dictionaries({"name": st.just("f") | JSON, "arguments": st.text(max_size=4)})
    },
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "tool", "assistant", "function", "x"]) | JSON},
    optional={
        "content": JSON,
        "name": JSON,
        "tool_calls": JSON | st.lists(CALL, max_size=2),
        "tool_call_id": JSON,
        "audio": JSON,
        "refusal": JSON,
    },
)
BODY = st.builds(
    lambda fields, messages: {**ask(), **fields, **({"messages": messages} if messages else {})},
    st.dictionaries(FIELD, JSON, max_size=4),
    st.none() | st.lists(MESSAGE, max_size=3),
)
QUIET = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Fuzzed:
    """One application for all the examples of a test, on a loop of its own."""

    def __init__(self, house: ClientOf) -> None:
        self._loop = asyncio.new_event_loop()
        self._house = house
        self._client = self._loop.run_until_complete(house.__aenter__())

    def post(self, path: str, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
        sending = self._client.post(path, content=body, headers={"Content-Type": kind})
        response = self._loop.run_until_complete(sending)
        return response.status_code, response.json()

    def close(self) -> None:
        self._loop.run_until_complete(self._house.__aexit__())
        self._loop.close()


@pytest.fixture
def fuzzed(settings: Settings, house: redis.Redis):  # type: ignore[no-untyped-def]
    # Everything that is accepted waits: there is room for all of it.
    roomy = settings.model_copy(
        update={"queue": settings.queue.model_copy(update={"chat_cap": 10_000, "batch_cap": 10_000})}
    )
    made = Fuzzed(client_of(roomy))
    yield made
    made.close()


def _is_decent(status: int, body: Any, accepted: int = 202) -> None:
    assert status < 500, body
    if status >= 400:
        error = body["error"]
        assert error["message"]
        assert error["code"]
        assert error["param"] is None or len(error["param"]) <= 300
    else:
        assert status == accepted


@QUIET
@given(body=BODY)
def test_no_field_breaks_a_job(fuzzed: Fuzzed, body: dict[str, Any]) -> None:
    _is_decent(*fuzzed.post("/v1/jobs", json.dumps(body).encode()))


RESPONSE_FIELD = st.sampled_from(sorted({*ResponsesRequest.model_fields, "seed", "stop"} - {"stream"}))
KIND = ["message", "function_call", "function_call_output", "reasoning", "item_reference"]
ITEM = st.dictionaries(
    st.sampled_from(["type", "role", "content", "call_id", "name", "arguments", "output", "summary", "id"]),
    st.sampled_from([*KIND, "user", "assistant", "add", "{}"]) | JSON,
    max_size=5,
)


@QUIET
@given(
    fields=st.dictionaries(RESPONSE_FIELD, JSON, max_size=4),
    items=st.text(max_size=8) | st.lists(ITEM, max_size=3) | JSON,
)
def test_no_field_breaks_a_response(fuzzed: Fuzzed, fields: dict[str, Any], items: Any) -> None:
    """In the background: nobody is there who would answer."""
    body = {"model": "tiny-chat", "input": items, **fields, "background": True}
    _is_decent(*fuzzed.post("/v1/responses", json.dumps(body).encode()), accepted=200)


@QUIET
@given(body=JSON)
def test_no_json_breaks_a_job(fuzzed: Fuzzed, body: Any) -> None:
    _is_decent(*fuzzed.post("/v1/jobs", json.dumps(body).encode()))


@QUIET
@given(body=st.binary(max_size=200))
def test_no_bytes_break_a_chat(fuzzed: Fuzzed, body: bytes) -> None:
    status, answer = fuzzed.post("/v1/chat/completions", body)
    assert status == 400
    assert answer["error"]["code"] in ("invalid_json", "invalid_type", "missing_required_parameter")


@QUIET
@given(body=BODY, cut=st.integers(1, 60))
def test_a_torn_body_is_refused(fuzzed: Fuzzed, body: dict[str, Any], cut: int) -> None:
    status, answer = fuzzed.post("/v1/chat/completions", json.dumps(body).encode()[:-cut])
    assert status == 400
    assert answer["error"]["code"] == "invalid_json"
