"""A chat through everything: API, Redis, Celery, card, journal, OpenAI's own SDK."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from bench.stack import Stack
from models.catalog import DEMO_PACKAGES
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from tasks.jobs import Message
from tests.whole.conftest import MODEL, Card, card_owner

LONG = "List everything you can do."


def ask(client: OpenAI, text: str, **options: Any) -> str:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], **options
    )
    return answer.choices[0].message.content or ""


def pieces(client: OpenAI, text: str, **options: Any) -> Iterator[str]:
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], stream=True, **options
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def long_winded(client: OpenAI) -> tuple[dict[str, Any], str]:
    """Options that make the demo model ramble, and what it says then: long enough to be disturbed."""
    for seed in range(40):
        options = {"temperature": 2.0, "seed": seed, "max_tokens": 120}
        text = ask(client, LONG, **options)
        if len(text) > 150:
            return options, text
    raise AssertionError("no seed makes the demo model ramble")


def test_choices_share_what_was_read_of_the_prompt(server: Stack, client: OpenAI) -> None:
    hot: Any = {"temperature": 2.0, "max_tokens": 20, "seed": 11}
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": LONG}], n=3, **hot
    )
    told = [choice.message.content for choice in raw.parse().choices]
    assert told[0] == ask(client, LONG, **hot)
    assert len(set(told)) == 3
    jobs = [httpx.get(f"{server.url}/v1/jobs/{job}").json() for job in raw.headers["x-job-ids"].split(",")]
    for job in jobs[1:]:
        # All but the last token, which is what the first choice of a token needs.
        usage = job["usage"]
        assert usage["cached_tokens"] >= usage["prompt_tokens"] - 1


def test_a_raw_prompt_is_gone_on_with_as_the_same_tokens_of_a_chat(client: OpenAI) -> None:
    asked = "What is Hearth?"
    tokenizer = ChatTokenizer.load(find_package(DEMO_PACKAGES / MODEL))
    ids = tokenizer.prompt([Message("user", asked)], {"enable_thinking": False}).ids
    raw = client.completions.create(model=MODEL, prompt=ids, max_tokens=60, temperature=0, logprobs=0)
    quiet: Any = {"extra_body": {"enable_thinking": False}}
    assert raw.choices[0].text == ask(client, asked, temperature=0, max_tokens=60, **quiet)
    assert raw.usage is not None
    assert raw.usage.prompt_tokens == len(ids)
    scores = raw.choices[0].logprobs
    assert scores is not None
    assert "".join(scores.tokens or []) == raw.choices[0].text


def test_the_sdk_streams_what_it_gets_in_one_piece_too(client: OpenAI) -> None:
    whole = ask(client, "What is Hearth?", temperature=0)
    assert "".join(pieces(client, "What is Hearth?", temperature=0)) == whole
    assert len(whole) > 10


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(client: OpenAI) -> None:
    hot = {"temperature": 2.0, "max_tokens": 40}
    first = ask(client, LONG, seed=1, **hot)
    assert ask(client, LONG, seed=1, **hot) == first
    assert ask(client, LONG, seed=2, **hot) != first


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
def test_a_killed_worker_changes_no_letter_of_the_answer(
    server: Stack, client: OpenAI, card: Card, share: float
) -> None:
    options, ordinary = long_winded(client)
    victim = card_owner(server)
    card("set-fault", "slow", "--factor", "20")
    heard, is_killed = "", False
    for piece in pieces(client, LONG, **options):
        heard += piece
        if not is_killed and len(heard) > share * len(ordinary):
            os.kill(victim, signal.SIGKILL)
            is_killed = True
            card("set-fault", "none")
    assert is_killed
    assert heard == ordinary
    assert card_owner(server) != victim


def test_a_hot_card_rests_in_the_middle_of_an_answer_and_goes_on(
    server: Stack, client: OpenAI, card: Card
) -> None:
    options, ordinary = long_winded(client)
    card("set-fault", "slow", "--factor", "40")
    body = {"kind": "chat", "model": MODEL, "messages": [{"role": "user", "content": LONG}], **options}
    job = httpx.post(f"{server.url}/v1/jobs", json=body).json()
    url = f"{server.url}{job['urls']['events']}"
    seen: list[str] = []
    with httpx.stream("GET", url, timeout=60.0) as events:
        for line in events.iter_lines():
            if not line.startswith("event: "):
                continue
            seen.append(line.removeprefix("event: "))
            if seen[-1] == "text_delta" and "held" not in seen and seen.count("text_delta") == 2:
                card("set", "--temperature", "85")  # at 90 it would be emptied
            if seen[-1] == "held":
                queue = httpx.get(f"{server.url}/v1/queue").json()
                assert "thermal" in str(queue)
                card("set", "--temperature", "40")
                card("set-fault", "none")
    assert "held" in seen
    assert seen.index("held") < seen.index("resumed") < seen.index("finished")
    assert httpx.get(f"{server.url}{job['urls']['self']}").json()["output"][0]["text"] == ordinary


def test_many_at_once_are_all_answered_and_in_order(server: Stack, client: OpenAI) -> None:
    answers: dict[int, str] = {}

    def one(number: int) -> None:
        answers[number] = ask(client, "What is Hearth?", temperature=0, max_tokens=24)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 12
    assert len(set(answers.values())) == 1


def test_bad_requests_are_refused_precisely_and_the_queue_goes_on(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(BadRequestError) as long:
        ask(client, "word " * 20_000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(BadRequestError) as longer:
        # Too long only by the tokenizer's count: accepted, then ended by the worker.
        ask(client, "q z " * 200)
    assert longer.value.code == "context_length_exceeded"
    assert ask(client, "What is Hearth?", temperature=0)


def test_a_cancelled_job_ends_at_its_next_step(server: Stack, card: Card) -> None:
    card("set-fault", "slow", "--factor", "60")
    body = {"kind": "chat", "model": MODEL, "messages": [{"role": "user", "content": LONG}], "temperature": 0}
    with httpx.Client(base_url=server.url, timeout=30.0) as http:
        job = http.post("/v1/jobs", json=body).json()
        with http.stream("GET", job["urls"]["events"]) as events:
            for line in events.iter_lines():
                if line == "event: text_delta":
                    break
        assert http.post(job["urls"]["cancel"]).status_code == 200
        with http.stream("GET", job["urls"]["events"]) as events:
            names = [line for line in events.iter_lines() if line.startswith("event: ")]
        assert names[-1] == "event: cancelled"
        assert http.get(job["urls"]["self"]).json()["state"] == "cancelled"


def test_the_card_is_owned_by_one_process_that_the_api_is_not(server: Stack) -> None:
    owner = psutil.Process(card_owner(server))
    names = {child.pid: child.cmdline() for child in psutil.Process(server.pid).children(recursive=True)}
    assert owner.pid in names
    apis = [pid for pid, line in names.items() if line[-2:] == ["-m", "api"]]
    assert len(apis) == 1
    libraries = {line.path for line in psutil.Process(apis[0]).memory_maps()}
    assert not any("onnxruntime" in path or "numpy" in path for path in libraries)


def test_a_second_job_waits_and_is_told_its_place(server: Stack, card: Card) -> None:
    card("set-fault", "slow", "--factor", "30")
    body = {"kind": "chat", "model": MODEL, "messages": [{"role": "user", "content": LONG}], "temperature": 0}
    with httpx.Client(base_url=server.url, timeout=60.0) as http:
        first = http.post("/v1/jobs", json=body).json()
        with http.stream("GET", first["urls"]["events"]) as events:
            next(line for line in events.iter_lines() if line == "event: started")
        stream = {"model": MODEL, "messages": body["messages"], "stream": True, "max_tokens": 3}
        with http.stream("POST", "/v1/chat/completions", json=stream) as reply:
            lines = reply.iter_lines()
            comment = next(line for line in lines if line.startswith(": queued"))
            assert "position=1" in comment
            card("set-fault", "none")
            assert list(lines)[-2:].count("data: [DONE]") == 1
