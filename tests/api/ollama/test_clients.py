"""What Home Assistant, Open WebUI and Continue send when they connect and talk, and what they read of it.

Requests as these programs make them, fields and headers alike. Sources, read in August 2026:
home-assistant/core homeassistant/components/ollama, open-webui/open-webui
backend/open_webui/routers/ollama.py, continuedev/continue core/llm/llms/Ollama.ts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
import redis

from config.settings import Settings
from tests.api.ollama.catalogue import put, watching
from tests.api.support import StandIn, make

NAME = "tiny-chat:latest"
HASS_TIMEOUT_S = 5.0
"""Home Assistant's patience with a server that it asks for its models."""
TOOL = {
    "type": "function",
    "function": {
        "name": "HassTurnOn",
        "description": "Turns on a device",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "domain": {"type": "array", "items": {"type": "string"}},
            },
            "required": [],
        },
    },
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (settings.data_dir / "models").mkdir(parents=True)
    models = settings.models.model_copy(update={"catalogue": (tmp_path,), "catalogue_allow": ("qwen3-*",)})
    return settings.model_copy(update={"models": models})


@pytest.fixture
async def sdk(client: httpx.AsyncClient) -> AsyncIterator[ollama.AsyncClient]:
    """As Home Assistant makes it: asynchronous, without a time limit of its own."""
    async with ollama.AsyncClient(host=str(client.base_url), transport=client._transport) as made:
        yield made


@pytest.fixture
def monitor(settings: Settings, house: redis.Redis) -> Iterator[None]:
    with watching(settings, house):
        yield


class TestHomeAssistant:
    async def test_a_model_that_is_not_there_is_pulled_and_then_chatted_with(
        self, sdk: ollama.AsyncClient, worker: StandIn, monitor: None, tmp_path: Path
    ) -> None:
        put(tmp_path, "Qwen3-0.6B")
        async with asyncio.timeout(HASS_TIMEOUT_S):
            downloaded = {model["model"] for model in (await sdk.list())["models"]}
        assert "qwen3:0.6b" not in downloaded
        await sdk.pull("qwen3:0.6b")  # a task of its own there, which the dialogue waits for
        async with asyncio.timeout(HASS_TIMEOUT_S):
            downloaded = {model["model"] for model in (await sdk.list())["models"]}
        assert "qwen3-0.6b:latest" in downloaded
        assert await self._said(sdk, "qwen3:0.6b", [_user("say on it")]) == ("on it", [])

    async def test_a_tool_is_called_and_its_result_sent_back_without_a_name(
        self, sdk: ollama.AsyncClient, worker: StandIn
    ) -> None:
        said = make({"call": ["HassTurnOn", '{"name": "lamp", "domain": ["light"]}']})
        history: list[dict[str, Any]] = [
            {"role": "system", "content": "You are a voice assistant."},
            _user(said),
        ]
        text, calls = await self._said(sdk, NAME, history)
        assert (text, len(calls)) == ("", 1)
        assert calls[0]["function"]["arguments"] == {"name": "lamp", "domain": ["light"]}
        history.append({"role": "assistant", "content": text, "tool_calls": calls})
        history.append({"role": "tool", "content": json.dumps({"success": True})})
        assert await self._said(sdk, NAME, history) == ('{"success": true}', []), "the stand-in echoes it"

    async def test_a_task_with_a_structure_is_bound_to_it(
        self, sdk: ollama.AsyncClient, worker: StandIn
    ) -> None:
        schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
        asked = [_user('say {"count": 3}')]
        text, _ = await self._said(sdk, NAME, asked, format=schema, tools=None)
        assert json.loads(text) == {"count": 3}

    async def test_its_polls_are_answered_while_jobs_wait(
        self, sdk: ollama.AsyncClient, client: httpx.AsyncClient, worker: StandIn
    ) -> None:
        worker.pause()
        body = {"kind": "chat", "model": "tiny-chat", "messages": [_user("say x")]}
        job = (await client.post("/v1/jobs", json=body)).json()
        async with asyncio.timeout(HASS_TIMEOUT_S):
            models, running = await sdk.list(), await sdk.ps()
        assert [model.model for model in running.models] == [NAME]
        assert running.models[0].expires_at is not None
        assert NAME in [model.model for model in models.models]
        await client.post(f"/v1/jobs/{job['id']}/cancel")

    @staticmethod
    async def _said(
        sdk: ollama.AsyncClient, model: str, messages: list[dict[str, Any]], **more: Any
    ) -> tuple[str, list[Any]]:
        """As its conversation agent asks and reads: ``keep_alive`` −1, ``num_ctx`` 8192, thinking off."""
        answer = await sdk.chat(
            model=model,
            messages=messages,
            stream=True,
            think=False,
            keep_alive=-1,
            options={"num_ctx": 8192},
            **{"tools": [TOOL], **more},
        )
        pieces, calls = [], []
        async for part in answer:
            message = part["message"]
            pieces.append(message.get("content") or "")
            calls += [call.model_dump() for call in message.get("tool_calls") or ()]
        return "".join(pieces), calls


class TestOpenWebUI:
    HEADERS = {  # noqa: RUF012 - nobody changes them
        "Authorization": "Bearer sk-anything",
        "Content-Type": "application/json",
        "X-OpenWebUI-User-Name": "Ada",
        "X-OpenWebUI-User-Role": "admin",
    }

    async def test_it_verifies_the_connection_and_merges_its_lists(self, client: httpx.AsyncClient) -> None:
        version = (await client.get("/api/version", headers=self.HEADERS)).json()["version"]
        assert tuple(map(int, version.split("."))) >= (0, 1, 16)
        models = (await client.get("/api/tags", headers=self.HEADERS)).json()["models"]
        loaded = (await client.get("/api/ps", headers=self.HEADERS)).json()["models"]
        expires = {model["model"]: model["expires_at"] for model in loaded}
        assert [(model["model"], model["name"]) for model in models] == [(NAME, NAME)]
        assert datetime.fromisoformat(expires[NAME]).tzinfo is not None

    async def test_it_chats_and_has_titles_made(self, client: httpx.AsyncClient, worker: StandIn) -> None:
        body = {
            "model": NAME,
            "messages": [{"role": "user", "content": "say Hello", "images": []}],
            "options": {"temperature": 0.8, "num_ctx": 2048, "mirostat": 0, "tfs_z": 1},
            "stream": True,
            "keep_alive": "5m",
            "metadata": {"chat_id": "1"},
        }
        response = await client.post("/api/chat", json=body, headers=self.HEADERS)
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in response.text.splitlines()]
        assert "".join(line["message"]["content"] for line in lines) == "Hello"
        last = lines[-1]
        assert last["done"] is True
        assert last["eval_count"] / last["eval_duration"] if last["eval_duration"] else True
        title = await client.post("/api/chat", json={**body, "stream": False}, headers=self.HEADERS)
        assert title.json()["message"]["content"] == "Hello"

    async def test_it_pulls_and_deletes_from_its_settings(
        self, client: httpx.AsyncClient, settings: Settings, monitor: None, tmp_path: Path
    ) -> None:
        put(tmp_path, "Qwen3-0.6B")
        response = await client.post("/api/pull", json={"model": "qwen3:0.6b"}, headers=self.HEADERS)
        lines = [json.loads(line) for line in response.text.splitlines()]
        shares = [line["completed"] / line["total"] for line in lines if "digest" in line]
        assert shares[-1] == 1
        assert lines[-1]["status"] == "success"
        assert not any("error" in line for line in lines)
        body = {"model": "qwen3:0.6b", "name": "qwen3:0.6b"}
        gone = await client.request("DELETE", "/api/delete", json=body, headers=self.HEADERS)
        assert gone.status_code == 200
        assert list(settings.packages_dir.iterdir()) == []


class TestContinue:
    async def test_it_looks_at_the_model_and_lists_the_others(self, client: httpx.AsyncClient) -> None:
        shown = (await client.post("/api/show", json={"name": NAME})).json()
        # It splits the parameters into lines and words, and looks for a place for a suffix in the template.
        assert all(len(line.split()) >= 2 for line in shown["parameters"].splitlines())
        assert ".Suffix" not in shown["template"]
        assert [model["name"] for model in (await client.get("/api/tags")).json()["models"]] == [NAME]

    async def test_it_chats_with_its_own_wishes(self, client: httpx.AsyncClient, worker: StandIn) -> None:
        body = {
            "model": NAME,
            "messages": [{"role": "user", "content": "say a|b"}],
            "options": {"num_predict": 100, "num_ctx": 4096, "stop": None, "num_thread": 4, "use_mmap": True},
            "keep_alive": 1800,
            "stream": True,
        }
        response = await client.post("/api/chat", json=body, headers={"Authorization": "Bearer undefined"})
        lines = [json.loads(line) for line in response.text.splitlines()]
        assert "".join(line["message"]["content"] for line in lines) == "ab"

    async def test_an_unknown_model_is_an_error_that_it_can_show(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/api/chat", json={"model": "codellama", "messages": []})
        assert response.status_code == 404
        assert "there is no model 'codellama'" in response.json()["error"]


async def test_the_asynchronous_sdk_is_answered_like_the_other(
    sdk: ollama.AsyncClient, worker: StandIn
) -> None:
    assert (await sdk.chat(NAME, [_user("say a|b")])).message.content == "ab"
    assert (await sdk.generate(NAME, "say a|b")).response == "ab"
    parts = await sdk.generate(NAME, "say a|b", stream=True)
    assert "".join([part.response or "" async for part in parts]) == "ab"
    assert (await sdk.show(NAME)).capabilities is not None
    assert (await sdk.ps()).models[0].model == NAME
    for refused in (sdk.create("mine", from_=NAME), sdk.push(NAME), sdk.copy(NAME, "mine")):
        with pytest.raises(ollama.ResponseError, match="directories on the server") as caught:
            await refused
        assert caught.value.status_code == 501


async def test_what_looks_whether_ollama_lives_asks_by_head(client: httpx.AsyncClient) -> None:
    for path in ("/", "/api/version", "/api/tags"):
        response = await client.head(path)
        assert (response.status_code, response.content) == (200, b""), path
    assert (await client.head("/api/blobs/sha256:0")).status_code == 501
    assert (await client.post("/api/blobs/sha256:0", content=b"x")).status_code == 501
    assert (await client.get("/api/pull")).status_code == 405


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
