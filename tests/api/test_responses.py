"""Responses: the events of a journal, what a request may say, and whose a response is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from api.errors import Refusal
from api.openai.responses.telling import Telling
from api.openai.responses.turns import Turns
from api.openai.responses.voice import ResponseVoice
from config.keyring import Keyring
from config.keyring import Scope as KeyScope
from config.settings import Settings
from tasks import jobs, keys
from tasks.events import (
    Event,
    Finished,
    Held,
    Queued,
    ReasoningDelta,
    Resumed,
    Started,
    TextDelta,
    Timings,
    ToolCall,
    Usage,
)
from tasks.jobs import (
    AsResponse,
    ChatJob,
    FinishReason,
    JobClass,
    JobId,
    Message,
    Sampling,
    Submission,
)
from tasks.journal import Entry
from tasks.made import joined
from tests.api.conftest import client_of
from tests.api.support import TINY, StandIn, chunks, comments, publish, until

JOB = ChatJob(
    Submission(JobId("job_" + "a" * 40), "me", JobClass.CHAT, created_at_ms=1_760_000_000_000),
    "tiny-chat",
    (Message("user", "hello"),),
    Sampling(seed=1),
    response=AsResponse(is_stored=True, is_background=False),
)
SUMMING = replace(
    JOB, response=replace(JOB.response or AsResponse(True, False), said={"reasoning": {"summary": "auto"}})
)

WORDS = st.text(min_size=0, max_size=5)
SAID = st.builds(lambda text: TextDelta(text, (1,)), WORDS)
CALLED = st.builds(lambda text: ToolCall(0, "call_x", "add", json.dumps({"a": text}), (1,)), WORDS)
THOUGHT = st.builds(lambda text: ReasoningDelta(text, (1,)), WORDS)
ASIDE = st.sampled_from(
    [Queued(1, "worker_lost"), Started(2, "card"), Held("thermal", "hot"), Resumed("thermal", 1)]
)
ENDS = st.builds(
    lambda reason: Finished(reason, Usage(3, 5), Timings()),
    st.sampled_from([FinishReason.STOP, FinishReason.LENGTH]),
)
MIDDLE = st.builds(
    lambda thoughts, rest: [*thoughts, *rest],
    st.lists(THOUGHT, max_size=4),
    st.lists(SAID | CALLED | ASIDE, max_size=8),
)
JOURNAL = st.builds(lambda middle, end: [Queued(0), Started(1, "card"), *middle, end], MIDDLE, ENDS)


def _told(journal: Sequence[Event], job: ChatJob = JOB) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    telling = Telling(job)
    return [told for event in journal for told in telling.tell(event, 1_760_000_001_000)], telling.response()


@given(journal=JOURNAL, job=st.sampled_from([JOB, SUMMING]))
def test_the_events_of_any_journal_are_well_formed(journal: list[Event], job: ChatJob) -> None:
    events, response = _told(journal, job)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    items: list[dict[str, Any]] = []
    is_open, texts = False, ""
    for event in events[3:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert not is_open
            is_open, texts = True, ""
            assert event["output_index"] == len(items)
            opened = event["item"]["id"]
        elif kind == "output_item.done":
            assert is_open
            assert event["item"]["id"] == opened
            items.append(event["item"])
            is_open = False
        else:
            assert is_open
            assert (event["item_id"], event["output_index"]) == (opened, len(items))
            texts += event.get("delta", "")
            for whole in ("text", "arguments"):
                assert event.get(whole, texts) == texts
    assert not is_open
    assert events[-1]["response"] == response
    assert response["output"] == items
    assert len({item["id"] for item in items}) == len(items)


@given(journal=JOURNAL)
def test_how_a_text_is_cut_changes_nothing_but_the_deltas(journal: list[Event]) -> None:
    plain = [event for event in journal if not isinstance(event, Queued | Started | Held | Resumed)]
    whole: list[Event] = [Queued(0), Started(1, "card")]
    run: list[TextDelta | ReasoningDelta] = []
    for event in plain:
        if isinstance(event, TextDelta | ReasoningDelta):
            run.append(event)
            continue
        whole += [*joined(run), event]
        run = []
    assert _told(whole)[1] == _told(journal)[1]


@given(journal=JOURNAL, looks=st.integers(0, 12))
def test_looking_at_a_response_does_not_change_its_events(journal: list[Event], looks: int) -> None:
    telling = Telling(JOB)
    events = []
    for index, event in enumerate(journal):
        events += telling.tell(event, 1_760_000_001_000)
        if index == looks:
            assert telling.response()["status"] in ("queued", "in_progress", "completed", "incomplete")
    assert events == _told(journal)[0]


async def test_a_journal_that_goes_while_it_is_asked_for_swallows_nothing() -> None:
    end = Entry("1760000001000-4294967296", Finished(FinishReason.STOP, Usage(3, 5), Timings()))
    nothing: Any = None  # it is refused before Redis is asked for anything
    with pytest.raises(Refusal) as refused:
        await ResponseVoice(nothing, JOB, after=3).tell(end)
    assert refused.value.problem.code == "stream_gone"


MESSAGE = {"role": "user", "content": "x"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
SAY = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]}
THINK = {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "T"}]}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "3"}


@pytest.mark.parametrize(
    ("items", "turns"),
    [
        ([MESSAGE, THINK, SAY, CALL, CALL, OUTPUT], ["user", "assistant", "tool"]),
        ([SAY, SAY], ["assistant", "assistant"]),
        ([CALL, SAY], ["assistant", "assistant"]),
        ([CALL, THINK, SAY], ["assistant", "assistant"]),
        ([THINK, CALL, OUTPUT, THINK, SAY], ["assistant", "tool", "assistant"]),
        ([{"type": "reasoning", "summary": [], "encrypted_content": "?"}, MESSAGE], ["user"]),
    ],
)
def test_items_of_one_turn_are_put_together(items: list[Any], turns: list[str]) -> None:
    told = Turns()
    for index, item in enumerate(items):
        told.add(item, f"input[{index}]")
    assert [turn["role"] for turn in told.all] == turns


def _asked(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny-chat", "input": "hello", "background": True, **fields}


FUNCTION = {"type": "function", "name": "f"}
NO_ID = "resp_" + "0" * 40


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"input": 3}, "input", "invalid_type"),
        ({"input": [3]}, "input[0]", "invalid_type"),
        ({"input": [{}]}, "input[0].type", "missing_required_parameter"),
        ({"input": [{"type": 3}]}, "input[0].type", "invalid_type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "unsupported_value"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [MESSAGE, {**MESSAGE, "content": 3}]}, "input[1].content", "invalid_type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
            "input[0].content[0]",
            "unsupported_value",
        ),
        ({"input": [{**CALL, "arguments": "["}]}, "input[0].arguments", "invalid_value"),
        ({"input": [{**CALL, "name": "no blanks"}]}, "input[0].name", "invalid_value"),
        ({"input": [MESSAGE, {**CALL, "call_id": ""}]}, "input[1].call_id", "invalid_value"),
        ({"input": [MESSAGE, OUTPUT]}, "input[1].call_id", "invalid_value"),
        ({"input": [CALL, {**OUTPUT, "output": None}]}, "input[1].output", "missing_required_parameter"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id", "response_not_found"),
        ({"input": "x" * 5000}, "input", "context_length_exceeded"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_value"),
        ({"tools": [FUNCTION, {"type": "function"}]}, "tools[1].name", "missing_required_parameter"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools[1].name", "invalid_value"),
        ({"tools": [{**FUNCTION, "name": "no blanks"}]}, "tools[0].name", "invalid_value"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "invalid_value"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice.name",
            "invalid_value",
        ),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "tools": [{"name": "g"}]}},
            "tool_choice.tools[0].name",
            "invalid_value",
        ),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools", "invalid_value"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "unsupported_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": 3}}}},
            "text.format.schema",
            "unsupported_value",
        ),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
        ({"reasoning": {"effort": "heroic"}}, "reasoning.effort", "invalid_value"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"metadata": {"k" * 65: "x"}}, "metadata", "invalid_value"),
        ({"store": False}, "store", "invalid_value"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_value"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_value"),
        ({"context_management": [{"type": "compaction"}]}, "context_management", "unsupported_value"),
        ({"truncation": "middle"}, "truncation", "invalid_value"),
        ({"stop": 3}, "stop", "invalid_type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "response_not_found"),
        ({"previous_response_id": NO_ID}, "previous_response_id", "response_not_found"),
        ({"model": "gpt-5"}, "model", "model_not_found"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    client: httpx.AsyncClient, house: redis.Redis, fields: dict[str, Any], param: str, code: str
) -> None:
    answer = await client.post("/v1/responses", json=_asked(**fields))
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    if "_" in code and code.startswith(("invalid", "missing")):
        assert "messages" not in error["message"]
    assert house.zcard(keys.JOBS) == 0


async def test_what_does_not_change_the_answer_is_reported(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/responses",
        json=_asked(
            include=["reasoning.encrypted_content"],
            truncation="auto",
            max_tool_calls=3,
            top_logprobs=2,
            text={"verbosity": "low"},
            reasoning={"summary": "auto"},
            tools=[{**FUNCTION, "strict": True}],
            safety_identifier="s",
            an_extra={"of": "somebody"},
        ),
    )
    assert answer.status_code == 200
    told = answer.headers["x-hearth-warnings"].split("; ")
    starts = ["include reasoning", "truncation", "max_tool", "top_logp", "text.verb", "reasoning", "safety"]
    for start in starts:
        assert any(each.startswith(start) for each in told), (start, told)
    body = answer.json()
    assert (body["truncation"], body["text"]["verbosity"]) == ("auto", "low")
    assert body["tools"] == [{**FUNCTION, "strict": True, "parameters": {}, "description": None}]


async def test_a_choice_between_some_tools_leaves_the_others_out(
    client: httpx.AsyncClient, house: redis.Redis
) -> None:
    tools = [{**FUNCTION, "name": name} for name in "fgh"]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}
    answer = await client.post(
        "/v1/responses", json=_asked(tools=tools, tool_choice=choice, seed=7, stop="x")
    )
    assert answer.json()["tool_choice"] == choice
    assert len(answer.json()["tools"]) == 3
    job = jobs.decode(house.hget(keys.job(answer.headers["x-job-id"]), "job") or b"")
    assert isinstance(job, ChatJob)
    assert [tool.name for tool in job.tools] == ["g"]
    assert (job.tool_choice, job.sampling.seed, job.sampling.stop) == ("required", 7, ("x",))
    assert job.response is not None
    assert job.response.is_background


async def test_a_model_without_tools_is_told_where_they_are(
    client: httpx.AsyncClient, house: redis.Redis
) -> None:
    publish(house, replace(TINY, knows_tools=False))
    answer = await client.post("/v1/responses", json=_asked(input=[CALL, OUTPUT]))
    assert answer.json()["error"]["param"] == "input[0]"


async def test_a_repeated_request_is_the_same_response(client: httpx.AsyncClient) -> None:
    twice = [
        (await client.post("/v1/responses", json=_asked(), headers={"Idempotency-Key": "k"})).json()
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


async def test_a_response_is_its_owners_alone(
    settings: Settings, house: redis.Redis, worker: StandIn
) -> None:
    ring = Keyring(settings.data_dir)
    mine, theirs = (
        {"Authorization": f"Bearer {ring.add(name, KeyScope.INFER)[1]}"} for name in ("me", "them")
    )
    locked = settings.model_copy(update={"api_key": SecretStr("admin")})
    async with client_of(locked) as client:
        asked = {"model": "tiny-chat", "input": "say x"}
        made = (await client.post("/v1/responses", json=asked, headers=mine)).json()
        path = f"/v1/responses/{made['id']}"
        refused = [
            await client.get(path, headers=theirs),
            await client.get(f"{path}?stream=true", headers=theirs),
            await client.get(f"{path}/input_items", headers=theirs),
            await client.post(f"{path}/cancel", headers=theirs),
            await client.delete(path, headers=theirs),
            await client.post(
                "/v1/responses", json={**asked, "previous_response_id": made["id"]}, headers=theirs
            ),
            await client.post(
                "/v1/responses",
                json={**asked, "input": [{"type": "item_reference", "id": made["output"][0]["id"]}]},
                headers=theirs,
            ),
        ]
        assert [answer.status_code for answer in refused] == [404] * 7
        assert (await client.get(path, headers=mine)).json() == made
        assert (await client.delete(path, headers=mine)).json()["deleted"] is True
        assert (await client.get(path, headers=mine)).status_code == 404


@pytest.mark.parametrize("path", ["/v1/responses/resp_1", f"/v1/responses/{NO_ID}", "/v1/responses/job_1"])
async def test_what_is_no_response_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "response_not_found"


async def test_a_chat_is_no_response(client: httpx.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json={"model": "tiny", "messages": [MESSAGE]})).json()
    answer = await client.get(f"/v1/responses/resp_{job['id'].removeprefix('job_')}")
    assert answer.status_code == 404


async def test_starting_after_belongs_to_a_stream(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/responses", json=_asked())).json()
    for query, param in (("starting_after=3", "starting_after"), ("stream=true&starting_after=-1", None)):
        answer = await client.get(f"/v1/responses/{made['id']}?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == (param or "starting_after")
    after = await client.get(f"/v1/responses/{made['id']}/input_items?after=msg_1")
    assert after.json()["error"]["param"] == "after"


async def test_comments_tell_the_place_in_the_queue(client: httpx.AsyncClient, house: redis.Redis) -> None:
    await client.post("/v1/responses", json=_asked())
    second = await client.post("/v1/responses", json=_asked())
    assert second.headers["x-queue-position"] == "2"
    path = f"/v1/responses/{second.json()['id']}"
    following = asyncio.create_task(client.get(f"{path}?stream=true"))
    # Written when somebody follows.
    await asyncio.to_thread(until, lambda: house.xlen(keys.WAKE))
    assert (await client.post(f"{path}/cancel")).json()["status"] == "cancelled"
    streamed = await following
    assert "queued position=2" in comments(streamed.text)
    assert json.loads(chunks(streamed.text)[-1])["response"]["status"] == "cancelled"
