"""``/v1/completions``: every field, every form of a prompt, and OpenAI's SDK."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refusal
from api.openai.choices import seed_of
from api.openai.completion_answer import LegacyScores
from api.openai.completion_request import completion_jobs
from api.openai.completion_schemas import Completion, CompletionRequest
from api.openai.request import Terms, validated
from config.settings import Settings
from tasks import jobs, keys
from tasks.errors import ContextTooLong
from tasks.events import Alternative, TokenLogprob
from tasks.jobs import ChatJob, JobClass, RawPrompt
from tests.api.conftest import Served
from tests.api.support import TINY, StandIn, chunks

PATH = "/v1/completions"
TERMS = Terms("anonymous", JobClass.CHAT)


def body(prompt: Any = "say a| b", /, **fields: Any) -> dict[str, Any]:
    return {"model": "tiny-chat", "prompt": prompt, **fields}


def _jobs(fields: dict[str, Any], **model: Any) -> list[ChatJob]:
    request = validated(CompletionRequest, fields)
    return completion_jobs(request, replace(TINY, **model), TERMS, Settings(redis_url=None))


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": None}, "missing_required_parameter", "prompt"),
        ({"prompt": 5}, "invalid_type", "prompt"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": ["a", ""]}, "invalid_value", "prompt[1]"),
        ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, "a"]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, -1]}, "invalid_value", "prompt[1]"),
        ({"prompt": [1, True]}, "invalid_type", "prompt[1]"),
        ({"prompt": [[1], []]}, "invalid_value", "prompt[1]"),
        ({"prompt": [[1], [2, 3.5]]}, "invalid_type", "prompt[1][1]"),
        ({"prompt": [{}]}, "invalid_type", "prompt[0]"),
        ({"prompt": ["a"] * 9}, "invalid_value", "prompt"),
        ({"prompt": ["a"] * 3, "n": 3}, "invalid_value", "n"),
        ({"n": 9}, "invalid_value", "n"),
        ({"n": 2, "best_of": 1}, "invalid_value", "best_of"),
        ({"n": 2, "best_of": 3}, "unsupported_value", "best_of"),
        ({"best_of": 0}, "invalid_value", "best_of"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"echo": True, "logprobs": 0}, "unsupported_value", "logprobs"),
        ({"echo": True, "prompt": [1, 2]}, "unsupported_value", "echo"),
        ({"echo": 1}, "invalid_type", "echo"),
        ({"suffix": "b", "prompt": [1]}, "unsupported_value", "suffix"),
        ({"suffix": 5}, "invalid_type", "suffix"),
        ({"logprobs": 21}, "invalid_value", "logprobs"),
        ({"logprobs": True}, "invalid_type", "logprobs"),
        ({"logit_bias": {"x": 1}}, "invalid_value", "logit_bias"),
        ({"presence_penalty": 3}, "invalid_value", "presence_penalty"),
        ({"stop": ["a"] * 5}, "invalid_value", "stop"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"service_tier": "gold"}, "invalid_value", "service_tier"),
        ({"user": 1}, "invalid_type", "user"),
        ({"model": ""}, "invalid_value", "model"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(Refusal) as refused:
        _jobs({**body(), **fields})
    assert (refused.value.problem.code, refused.value.problem.param) == (code, param)


@pytest.mark.parametrize(
    ("prompt", "raw"),
    [
        ("a b", [RawPrompt("a b")]),
        (["a", "b"], [RawPrompt("a"), RawPrompt("b")]),
        ([5, 6], [RawPrompt(token_ids=(5, 6))]),
        ([[5, 6], [7]], [RawPrompt(token_ids=(5, 6)), RawPrompt(token_ids=(7,))]),
        (["a", [7]], [RawPrompt("a"), RawPrompt(token_ids=(7,))]),
    ],
)
def test_every_form_of_a_prompt_is_taken(prompt: Any, raw: list[RawPrompt]) -> None:
    made = _jobs(body(prompt, n=2, seed=3))
    assert [job.raw for job in made] == [each for each in raw for _ in range(2)]
    assert [job.sampling.seed for job in made] == [3, seed_of(3, 1)] * len(raw)
    assert len({job.submission.batch for job in made} - {None}) == 1
    assert all(job.messages == () for job in made)


def test_what_is_silent_is_openais() -> None:
    (job,) = _jobs(body(suffix="c", stop="x", user="me", best_of=1, logit_bias={"3": 1}))
    assert job.raw == RawPrompt("say a| b", suffix="c")
    assert (job.sampling.max_tokens, job.sampling.logprobs, job.sampling.stop) == (16, None, ("x",))
    assert job.sampling.logit_bias == ((3, 1.0),)
    assert job.submission.warnings == ()
    (noted,) = _jobs(body(stream_options={"include_obfuscation": True}))
    assert len(noted.submission.warnings) == 2


def test_what_is_certainly_too_long_is_refused_at_once() -> None:
    with pytest.raises(ContextTooLong) as refused:
        _jobs(body("x" * 5000))
    assert refused.value.param == "prompt"


async def test_a_body_has_openais_form(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    response = await client.post(PATH, json=body(["say a| b", "say c|d|e"], n=2, logprobs=2))
    told = response.json()
    Completion.model_validate(told)
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in told["choices"]] == ["a b", "a b", "cde", "cde"]
    scores = told["choices"][0]["logprobs"]
    assert scores["tokens"] == ["a", " b"]
    assert scores["text_offset"] == [0, 1]
    assert scores["token_logprobs"] == [-0.5, -0.5]
    assert scores["top_logprobs"][0] == {"o0": -2.0, "o1": -3.0, "a": -0.5}
    # The stand-in counts characters; a prompt counts once.
    prompts = len("say a| b") + len("say c|d|e")
    assert told["usage"]["prompt_tokens"] == prompts
    assert told["usage"]["completion_tokens"] == 2 * 2 + 2 * 3
    assert told["id"].removeprefix("cmpl-") == response.headers["x-job-id"].removeprefix("job_")
    assert len(response.headers["x-job-ids"].split(",")) == 4
    job = jobs.decode(house.hget(keys.job(response.headers["x-job-id"]), "job") or b"")
    assert isinstance(job, ChatJob)
    assert job.raw == RawPrompt("say a| b")


@pytest.mark.parametrize("count", [1, 2])
async def test_a_stream_echoes_and_counts(client: httpx.AsyncClient, worker: StandIn, count: int) -> None:
    asked = body("slow 3", n=count, echo=True, stream=True, stream_options={"include_usage": True})
    response = await client.post(PATH, json=asked)
    *data, done = chunks(response.text)
    assert done == "[DONE]"
    *told, usage = [json.loads(chunk) for chunk in data]
    for index in range(count):
        mine = [chunk["choices"][0] for chunk in told if chunk["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in mine) == "slow 30 1 2 "
        assert [choice["finish_reason"] for choice in mine] == [None] * (len(mine) - 1) + ["stop"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3 * count
    assert {chunk["object"] for chunk in told} == {"text_completion"}
    assert ("\nid: " in response.text) == (count == 1)


async def test_a_kept_answer_is_told_again(
    client: httpx.AsyncClient, worker: StandIn, house: redis.Redis
) -> None:
    once = {"Idempotency-Key": "text"}
    first = await client.post(PATH, json=body(echo=True), headers=once)
    house.delete(keys.journal(first.headers["x-job-id"]))
    again = await client.post(PATH, json=body(echo=True), headers=once)
    assert again.json() == first.json()
    other = await client.post("/v1/chat/completions", json=body(echo=True), headers=once)
    assert other.status_code == 400  # a chat has messages


async def test_a_failure_names_the_prompts_field(client: httpx.AsyncClient, worker: StandIn) -> None:
    response = await client.post(PATH, json=body("too long"))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


PIECES = st.lists(st.text(min_size=1, max_size=3), max_size=6)


@given(PIECES, st.data())
def test_offsets_are_where_a_token_begins(pieces: list[str], data: st.DataObject) -> None:
    """However the bytes are cut into tokens and the tokens into deltas."""
    whole = "".join(pieces)
    raw = whole.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)))))
    bounds = [0, *(cut for cut in cuts if cut < len(raw)), len(raw)] if raw else []
    tokens = [raw[a:b] for a, b in pairwise(bounds)]
    scores = [TokenLogprob(Alternative("", tuple(token), -1.0)) for token in tokens]
    border = data.draw(st.integers(0, len(scores)))
    teller = LegacyScores()
    told = [piece for piece in (teller.told(scores[:border]), teller.told(scores[border:])) if piece]
    offsets = [offset for piece in told for offset in piece["text_offset"]]
    names = [name for piece in told for name in piece["tokens"]]
    at = 0
    for token, offset, name in zip(tokens, offsets, names, strict=True):
        assert offset == len(raw[:at].decode(errors="ignore"))
        try:
            assert name == token.decode()
        except UnicodeDecodeError:
            assert name.startswith("bytes:\\x")
        at += len(token)


def test_the_sdk_reads_them(served: Served, worker: StandIn) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        whole = sdk.completions.create(model="tiny-chat", prompt=["slow 2", "say x"], logprobs=1)
        assert [choice.text for choice in whole.choices] == ["0 1 ", "x"]
        assert whole.choices[1].logprobs is not None
        assert whole.choices[1].logprobs.tokens == ["x"]
        stream = sdk.completions.create(model="tiny-chat", prompt="slow 3", echo=True, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == "slow 30 1 2 "


WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**33) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(CompletionRequest.model_fields)), WILD, max_size=4))
def test_no_field_breaks_anything(fields: dict[str, Any]) -> None:
    try:
        made = _jobs({**body(), **fields, "model": "tiny-chat"})
    except (Refusal, ContextTooLong):
        return
    assert all(jobs.decode(jobs.encode(job)) == job for job in made)
