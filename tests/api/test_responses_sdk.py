"""The official SDK's Responses against the real server, unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pydantic
import pytest
import redis

from config.settings import Settings
from tasks import jobs, keys
from tests.api.conftest import Served, client_of
from tests.api.support import StandIn, make, until

TINY = "tiny-chat"
ADD: Any = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": False,
}
CALLING = make(
    {"think": "I"},
    {"think": " add"},
    {"say": "Well. "},
    {"call": ["add", '{"a": 1}']},
    {"call": ["add", '{"a": "é\\u2028"}']},
)


@pytest.fixture
def sdk(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def _job(house: redis.Redis, job_id: str) -> jobs.ChatJob:
    job = jobs.decode(house.hget(keys.job(job_id), "job") or b"")
    assert isinstance(job, jobs.ChatJob)
    return job


def test_a_whole_answer(sdk: openai.OpenAI, worker: StandIn, house: redis.Redis) -> None:
    answer = sdk.responses.create(
        model="tiny", input="say Hearth| is warm", instructions="Be brief.", metadata={"a": "b"}, user="me"
    )
    assert (answer.status, answer.output_text) == ("completed", "Hearth is warm")
    items: list[Any] = answer.output
    assert [(item.type, item.status) for item in items] == [("message", "completed")]
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2
    assert answer.usage.total_tokens == answer.usage.input_tokens + 2
    assert answer.usage.input_tokens_details.cached_tokens == 2
    assert (answer.model, answer.store, answer.background) == (TINY, True, False)  # type: ignore[attr-defined]
    assert (answer.instructions, answer.metadata, answer.user) == ("Be brief.", {"a": "b"}, "me")
    assert answer.completed_at is not None
    assert answer.id.removeprefix("resp_") == worker.seen[0].removeprefix("job_")
    assert [(m.role, m.content) for m in _job(house, worker.seen[0]).messages] == [
        ("system", "Be brief."),
        ("user", "say Hearth| is warm"),
    ]
    again = sdk.responses.retrieve(answer.id)
    assert again.to_dict() == answer.to_dict()


def test_every_type_of_the_sdk_holds_what_it_says(sdk: openai.OpenAI, worker: StandIn) -> None:
    """The SDK builds its objects without looking; validated, they are what its types promise."""
    answer = sdk.responses.create(model=TINY, input=CALLING, tools=[ADD])
    type(answer).model_validate(answer.to_dict())
    for event in sdk.responses.create(model=TINY, input=CALLING, tools=[ADD], stream=True):
        type(event).model_validate(event.to_dict())
    items = sdk.responses.input_items.list(answer.id)
    type(items).model_validate(items.to_dict())


def test_the_events_come_in_order(sdk: openai.OpenAI, worker: StandIn) -> None:
    events = list(sdk.responses.create(model=TINY, input=CALLING, tools=[ADD], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    types = [event.type for event in events]
    call = [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    kinds = list(dict.fromkeys(types[:-9]))
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert types[-9:] == [*call, *call, "response.completed"]
    deltas = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(deltas) == "I add"
    last: Any = events[-1]
    assert [item.type for item in last.response.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    done: list[Any] = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.to_dict() for item in done] == [item.to_dict() for item in last.response.output]


def test_the_streaming_helper(sdk: openai.OpenAI, worker: StandIn) -> None:
    with sdk.responses.stream(model=TINY, input="slow 5") as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == "0 1 2 3 4 "
    assert final.output_text == "0 1 2 3 4 "
    with sdk.responses.stream(response_id=final.id, starting_after=5) as resumed:
        numbers = [event.sequence_number for event in resumed]
        assert resumed.get_final_response().output_text == "0 1 2 3 4 "
    assert numbers[0] == 6


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_a_parsed_answer_is_bound_to_its_schema(
    sdk: openai.OpenAI, worker: StandIn, house: redis.Redis
) -> None:
    answer = sdk.responses.parse(model=TINY, input='say {"name": "Ada", |"age": 36}', text_format=Person)
    assert answer.output_parsed == Person(name="Ada", age=36)
    schema = _job(house, worker.seen[0]).json_schema
    assert schema is not None
    assert json.loads(schema)["required"] == ["name", "age"]
    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.type == "json_schema"


def test_a_call_goes_back_with_its_result(sdk: openai.OpenAI, worker: StandIn, house: redis.Redis) -> None:
    first = sdk.responses.create(model=TINY, input=CALLING, tools=[ADD], store=False)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("add", {"a": 1}),
        ("add", {"a": "é\u2028"}),
    ]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": text}
        for call, text in zip(calls, ("2", "say thanks"), strict=True)
    ]
    history: Any = [{"role": "user", "content": "1+1?"}, *first.output, *results]
    second = sdk.responses.create(model=TINY, input=history, tools=[ADD])
    assert second.output_text == "thanks"
    told = _job(house, worker.seen[1]).messages
    assert [message.role for message in told] == ["user", "assistant", "tool", "tool"]
    assert (told[1].content, told[1].reasoning, len(told[1].calls)) == ("Well. ", "I add", 2)


def test_a_response_goes_on_from_another(sdk: openai.OpenAI, worker: StandIn, house: redis.Redis) -> None:
    first = sdk.responses.create(model=TINY, input=CALLING, tools=[ADD], instructions="Add.")
    results: Any = [
        {"type": "function_call_output", "call_id": f"call_{n}", "output": text}
        for n, text in enumerate(("2", "say three"))
    ]
    second = sdk.responses.create(model=TINY, previous_response_id=first.id, input=results, tools=[ADD])
    # What is before the previous one is not needed: its whole conversation stands in the previous one.
    sdk.responses.delete(first.id)
    third = sdk.responses.create(
        model=TINY, previous_response_id=second.id, input="say four", instructions="Count."
    )
    assert (second.output_text, third.output_text) == ("three", "four")
    assert third.previous_response_id == second.id
    assert [(message.role, message.content) for message in _job(house, worker.seen[2]).messages] == [
        ("system", "Count."),
        ("user", CALLING),
        ("assistant", "Well. "),
        ("tool", "2"),
        ("tool", "say three"),
        ("assistant", "three"),
        ("user", "say four"),
    ]
    own = sdk.responses.input_items.list(third.id)
    assert [item.type for item in own] == ["message"]
    with pytest.raises(openai.NotFoundError) as gone:
        sdk.responses.create(model=TINY, previous_response_id=first.id, input="say x")
    assert (gone.value.code, gone.value.param) == ("response_not_found", "previous_response_id")


@pytest.mark.parametrize("top", [0, 2])
def test_probabilities(sdk: openai.OpenAI, worker: StandIn, top: int) -> None:
    asked: dict[str, Any] = {
        "model": TINY,
        "input": make({"think": "x"}, {"say": "a"}, {"say": "é"}),
        "include": ["message.output_text.logprobs"],
        "top_logprobs": top,
    }
    message: Any = sdk.responses.create(**asked).output[-1]
    whole = message.content[0].logprobs
    assert [(token.token, token.bytes, token.logprob) for token in whole] == [
        ("a", [97], -0.5),
        ("é", [195, 169], -0.5),
    ]
    assert [[other.logprob for other in token.top_logprobs] for token in whole] == [[-2.0, -3.0][:top]] * 2
    events: list[Any] = list(sdk.responses.create(**asked, stream=True))
    told = [
        token for event in events if event.type == "response.output_text.delta" for token in event.logprobs
    ]
    assert [token.to_dict() for token in told] == [token.to_dict() for token in whole]


def test_thoughts_as_a_summary(sdk: openai.OpenAI, worker: StandIn) -> None:
    asked: dict[str, Any] = {
        "model": TINY,
        "input": make({"think": "Hm"}, {"think": "m"}, {"say": "a"}),
        "reasoning": {"effort": "low", "summary": "auto"},
    }
    events: list[Any] = list(sdk.responses.create(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert "".join(deltas) == "Hmm"
    thoughts = events[-1].response.output[0]
    assert [part.text for part in thoughts.summary] == ["Hmm"]
    assert thoughts.content == []
    assert events[-1].response.reasoning.to_dict() == {"effort": "low", "summary": "auto"}


def test_an_answer_that_is_cut_is_incomplete(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.responses.create(model=TINY, input="length", max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.max_output_tokens == 16
    assert [item.status for item in answer.output] == ["incomplete"]  # type: ignore[union-attr]
    events = list(sdk.responses.create(model=TINY, input="length", stream=True))
    assert events[-1].type == "response.incomplete"


def test_a_background_response_is_polled(sdk: openai.OpenAI, worker: StandIn) -> None:
    worker.pause()
    begun = sdk.responses.create(model=TINY, input="slow 5", background=True)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    assert sdk.responses.retrieve(begun.id).status == "queued"
    worker.resume()
    until(lambda: sdk.responses.retrieve(begun.id).status == "completed")
    assert sdk.responses.retrieve(begun.id).output_text == "0 1 2 3 4 "
    # What has ended stays as it is.
    assert sdk.responses.cancel(begun.id).status == "completed"


def test_a_background_response_is_cancelled(sdk: openai.OpenAI, worker: StandIn) -> None:
    stream = sdk.responses.create(model=TINY, input="wait", background=True, stream=True)
    first: Any = next(iter(stream))
    until(lambda: sdk.responses.retrieve(first.response.id).output_text)
    running = sdk.responses.retrieve(first.response.id)
    assert (running.status, running.output[0].status) == ("in_progress", "in_progress")  # type: ignore[union-attr]
    with pytest.raises(openai.ConflictError) as early:
        sdk.responses.delete(first.response.id)
    assert early.value.code == "response_not_ended"
    assert sdk.responses.cancel(first.response.id).status == "cancelled"
    assert sdk.responses.cancel(first.response.id).status == "cancelled"
    last: Any = list(stream)[-1]
    assert (last.type, last.response.status) == ("response.failed", "cancelled")
    assert last.response.error.code == "job_cancelled"
    with pytest.raises(openai.BadRequestError) as ended:
        sdk.responses.create(model=TINY, input="say x", previous_response_id=first.response.id)
    assert ended.value.param == "previous_response_id"


def test_only_background_responses_are_cancelled(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.responses.create(model=TINY, input="say x")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.cancel(answer.id)
    assert "background" in refused.value.message


async def test_a_stream_goes_on_behind_any_event(
    sdk: openai.OpenAI, worker: StandIn, settings: Settings
) -> None:
    """In another process too: what numbers the events is the journal alone."""
    events = [
        event.to_dict() for event in sdk.responses.create(model=TINY, input=CALLING, tools=[ADD], stream=True)
    ]
    first: Any = events[0]
    path = f"/v1/responses/{first['response']['id']}?stream=true"
    async with client_of(settings) as other:
        told = [_told(await other.get(f"{path}&starting_after={n}")) for n in range(len(events))]
        whole = _told(await other.get(path))
    assert whole == events
    assert told == [events[n + 1 :] for n in range(len(events))]
    resumed = sdk.responses.retrieve(first["response"]["id"], stream=True, starting_after=7)
    assert [event.to_dict() for event in resumed] == events[8:]


def _told(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    lines = answer.text.split("\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    return events


async def test_a_stream_is_resumed_while_it_is_made(served: Served, worker: StandIn) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        stream = await sdk.responses.create(model=TINY, input="slow 20", background=True, stream=True)
        known: list[Any] = []
        async for event in stream:
            known.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        more = await sdk.responses.retrieve(
            known[0].response.id, stream=True, starting_after=known[-1].sequence_number
        )
        known += [event async for event in more]
    assert [event.sequence_number for event in known] == list(range(len(known)))
    deltas = [event.delta for event in known if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "".join(f"{n} " for n in range(20)) == known[-1].response.output_text


def test_without_its_journal_a_response_is_told_anew(
    sdk: openai.OpenAI, worker: StandIn, house: redis.Redis
) -> None:
    made = sdk.responses.create(model=TINY, input=CALLING, tools=[ADD])
    house.hset(keys.job(worker.seen[0]), "ended_at", 1_700_000_000_999)
    answer = sdk.responses.retrieve(made.id)
    assert answer.completed_at == 1_700_000_000, "the record's clock, the only one there is later"
    house.delete(keys.journal(worker.seen[0]))
    assert sdk.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    with sdk.responses.stream(response_id=answer.id, tools=[ADD]) as stream:
        assert stream.get_final_response().output_text == "Well. "
    events: list[Any] = list(sdk.responses.retrieve(answer.id, stream=True))
    assert events[-1].response.to_dict() == answer.to_dict()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    with pytest.raises(openai.APIStatusError) as gone:
        sdk.responses.retrieve(answer.id, stream=True, starting_after=3)
    assert (gone.value.status_code, gone.value.code) == (410, "stream_gone")


def test_input_items_are_paged(sdk: openai.OpenAI, worker: StandIn) -> None:
    asked: Any = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]},
        {"role": "user", "content": "Hello"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "3"}]},
        {"role": "user", "content": "say so"},
    ]
    answer = sdk.responses.create(model=TINY, input=asked, tools=[ADD])
    kinds = ["message", "message", "message", "function_call", "function_call_output", "message"]
    items: list[Any] = list(sdk.responses.input_items.list(answer.id, order="asc", limit=2))
    assert [item.type for item in items] == kinds
    assert [item.content[0].text for item in items[:3]] == ["Be kind.", "Hello", "Hi"]
    newest = sdk.responses.input_items.list(answer.id, limit=4)
    assert newest.has_more
    assert [item.id for item in newest.data] == [item.id for item in items[:1:-1]]
    # Any of them may be named instead of being sent again.
    names: Any = [{"type": "item_reference", "id": item.id} for item in (*items, *answer.output)]
    again = sdk.responses.create(model=TINY, input=[*names, {"role": "user", "content": "say again"}])
    assert again.output_text == "again"


def test_what_is_not_stored_is_not_found(sdk: openai.OpenAI, worker: StandIn) -> None:
    answer = sdk.responses.create(model=TINY, input="say x", store=False)
    for ask in (
        lambda: sdk.responses.retrieve(answer.id),
        lambda: sdk.responses.delete(answer.id),
        lambda: sdk.responses.cancel(answer.id),
        lambda: sdk.responses.input_items.list(answer.id),
        lambda: sdk.responses.create(model=TINY, input="x", previous_response_id=answer.id),
    ):
        with pytest.raises(openai.NotFoundError) as missing:
            ask()
        assert missing.value.code == "response_not_found"


def test_a_job_that_fails(sdk: openai.OpenAI, worker: StandIn) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        sdk.responses.create(model=TINY, input="too long")
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input")
    events: list[Any] = list(sdk.responses.create(model=TINY, input="too long", stream=True))
    assert (events[-1].type, events[-1].response.status) == ("response.failed", "failed")
    error = events[-1].response.error
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    assert sdk.responses.retrieve(events[-1].response.id).status == "failed"


async def test_a_server_that_leaves_says_so_in_the_stream(
    settings: Settings, house: redis.Redis, worker: StandIn
) -> None:
    asked: dict[str, Any] = {"model": TINY, "input": "wait", "stream": True, "background": True}
    leaving = client_of(settings)
    async with leaving as client:
        http: Any = client  # the SDK has another httpx in mind, and asks nothing of it that this one lacks
        sdk = openai.AsyncOpenAI(
            base_url="http://localhost/v1", api_key="any", http_client=http, max_retries=0
        )
        asking = asyncio.create_task(sdk.responses.create(**asked))
        # Queued, started, and some of the text.
        await asyncio.to_thread(until, lambda: worker.seen and house.xlen(keys.journal(worker.seen[0])) >= 3)
        leaving.app.state.context.closing.set()
        with pytest.raises(openai.APIError) as raised:
            [event async for event in await asking]
    assert raised.value.code == "shutting_down"


async def test_the_async_client(served: Served, worker: StandIn) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any") as sdk:
        answers = await asyncio.gather(
            *(sdk.responses.create(model=TINY, input=f"say {n}") for n in range(4))
        )
        async with sdk.responses.stream(model=TINY, input="slow 3") as stream:
            final = await stream.get_final_response()
    assert [answer.output_text for answer in answers] == [str(n) for n in range(4)]
    assert final.output_text == "0 1 2 "
