"""What a chat UI asks for by itself waits behind chats; what a person asks never does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from api.background import has_shape, is_background
from config.settings import Settings
from tests.api.conftest import client_of
from tests.api.support import StandIn, ask

HISTORY = "USER: Which lamp is it?\nASSISTANT: The one in the hall."


def prompt(key: str, *, output: str = "### Output:", history: str = HISTORY) -> str:
    """Built as Open WebUI builds it, in other words."""
    return (
        "### Task:\nSay in a few words what this is about.\n### Guidelines:\n- Be brief.\n"
        f'{output}\nJSON format: {{ "{key}": "…" }}\n### Examples:\n- {{ "{key}": "Lamps" }}\n'
        f"### Chat History:\n<chat_history>\n{history}\n</chat_history>"
    )


TYPED = (
    "### Task:\nComplete the text.\n\n### **Instructions**:\n1. See `<text>`.  \n\n### **Output Rules**:\n"
    '- Only JSON: `{ "text": "<completion>" }`.\n\n### Context:\n<chat_history>\n'
    f"{HISTORY}\n</chat_history>\n<type>search query</type>  \n<text>Where do I</text>  \n#### Output:\n"
)
WORK = {
    "title": prompt("title"),
    "tags": prompt("tags"),
    "follow-ups": prompt("follow_ups"),
    "typed": TYPED,
    "typed in the editor": TYPED.replace("search query", "general"),
}
QUESTIONS = {
    "queries, which an answer waits for": prompt("queries"),
    "a picture's prompt, which the picture waits for": prompt("prompt"),
    "a question about such a prompt": "What does this do?\n" + prompt("title"),
    "one with a question behind it": prompt("title") + "\nWhat does this do?",
    "a task of somebody's own": '### Task:\nGive me a title as JSON like { "title": "…" }\n### Output:\nJSON',
    "no output is said": prompt("title", output="### Answer:"),
    "titles of a history of their own": "Find a title\n<chat_history>\nx\n</chat_history>",
    "only the beginning": "### Task:\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", WORK)
def test_work_is_known_by_its_shape(name: str) -> None:
    assert has_shape(WORK[name])
    assert has_shape(WORK[name].replace("\n", "\r\n"))
    assert is_background({}, None, [("user", WORK[name])], streams=False)
    assert is_background({}, None, [("system", "be brief"), ("user", WORK[name])], streams=False)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_question(name: str) -> None:
    assert not is_background({}, None, [("user", QUESTIONS[name])], streams=False)


def test_what_is_read_as_it_comes_or_has_a_past_is_a_question() -> None:
    turn = ("user", prompt("title"))
    assert not is_background({}, None, [turn], streams=True)
    assert not is_background({}, None, [turn, ("assistant", "Lamps"), turn], streams=False)
    assert not is_background({}, None, [("user", "hi"), ("assistant", "hi"), turn], streams=False)
    assert not is_background({}, None, [], streams=False)


@given(st.text(max_size=200), st.text(max_size=200))
def test_nothing_that_was_said_makes_work_of_a_question(question: str, history: str) -> None:
    assert not has_shape(question)
    assert has_shape(prompt("title", history=history))  # nor the other way round


@pytest.mark.parametrize(
    ("headers", "metadata", "is_work"),
    [
        ({"x-openwebui-task": "title_generation"}, None, True),
        ({"x-openwebui-task": "TASKS.TAGS_GENERATION"}, None, True),
        ({}, {"task": "autocomplete_generation"}, True),
        ({"x-openwebui-task": "query_generation"}, None, False),
        ({"x-openwebui-task": "moa_response_generation"}, None, False),
        ({"x-openwebui-task": ""}, None, False),
        ({"x-openwebui-chat-id": "5", "x-openwebui-user-id": "6"}, {"chat_id": "5"}, False),
    ],
)
def test_a_task_may_be_named(headers: dict[str, str], metadata: dict[str, str] | None, is_work: bool) -> None:
    assert is_background(headers, metadata, [("user", "hi")], streams=True) == is_work


def _native(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", ask(text, max_completion_tokens=1000, **more)


def _ollama(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    turns = [{"role": "user", "content": text}]
    return "/api/chat", {"model": "tiny-chat", "messages": turns, "stream": False, **more}


async def _queue(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[str, httpx.Response]:
    response = await client.post(path, json=body)
    assert response.status_code == 200
    job = (await client.get(f"/v1/jobs/{response.headers['x-job-id']}")).json()
    return job["queue"], response


async def test_both_dialects_put_it_behind_chats(client: httpx.AsyncClient, worker: StandIn) -> None:
    for say in (_native, _ollama):
        queue, response = await _queue(client, *say(prompt("title")))
        assert queue == "batch.tiny-chat"
        assert "background work" in response.headers["x-hearth-warnings"]
        assert (await _queue(client, *say("Which lamp is it?")))[0] == "chat.tiny-chat"
    assert (await _queue(client, *_native(prompt("title"), service_tier="default")))[0] == "chat.tiny-chat"
    _, response = await _queue(client, *_native(prompt("tags"), service_tier="auto"))
    assert response.json()["service_tier"] == "flex"


async def test_an_operator_may_turn_it_off(settings: Settings, house: redis.Redis, worker: StandIn) -> None:
    queue = settings.queue.model_copy(update={"background_last": False})
    async with client_of(settings.model_copy(update={"queue": queue})) as client:
        for say in (_native, _ollama):
            assert (await _queue(client, *say(prompt("title"))))[0] == "chat.tiny-chat"
