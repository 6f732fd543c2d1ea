"""What programs of the house send, call by call, from the moment somebody types in our address.

The bodies and headers are what these programs send; where they were read stands with each. They are replayed
with plain HTTP, because the programs themselves need a house of their own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tasks import keys
from tests.api.support import make
from tests.clients.conftest import MODEL, Home

NAME = f"{MODEL}:latest"


@pytest.fixture
def http(home: Home) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=home.url, timeout=10) as client:
        yield client


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert told[-1] == "[DONE]"
    return [json.loads(each) for each in told[:-1]]


# ---- Home Assistant, integration "Ollama". Source: home-assistant/core components/ollama (config_flow.py,
# coordinator.py, entity.py, const.py), over ollama-python's AsyncClient.

HOME_ASSISTANT = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "ollama-python/0.6.1 (x86_64 linux) Python/3.13.7",
}
HASS_TOOL = {
    "type": "function",
    "function": {
        "name": "HassTurnOn",
        "description": "Turns on/opens/presses a device or entity",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "area": {"type": "string"},
                "domain": {"type": "array", "items": {"type": "string"}},
            },
            "required": [],
        },
    },
}


def _spoken(*turns: dict[str, Any]) -> dict[str, Any]:
    system = {"role": "system", "content": "You are a voice assistant for Home Assistant."}
    return {
        "model": NAME,
        "messages": [system, *turns],
        "tools": [HASS_TOOL],
        "stream": True,
        "think": False,
        "options": {"num_ctx": 8192},
        "keep_alive": -1,
    }


def test_home_assistant_is_set_up_and_keeps_looking(http: httpx.Client) -> None:
    """The flow asks for the list with 5 s of patience; the coordinator asks both every 30 s from then on."""
    listed = http.get("/api/tags", headers=HOME_ASSISTANT, timeout=5).json()["models"]
    assert NAME in [model["model"] for model in listed]
    for _ in range(3):
        assert http.get("/api/tags", headers=HOME_ASSISTANT, timeout=5).status_code == 200
        assert http.get("/api/ps", headers=HOME_ASSISTANT, timeout=5).json()["models"][0]["model"] == NAME


def test_home_assistant_installs_a_model_that_is_there_at_once(http: httpx.Client) -> None:
    told = http.post("/api/pull", json={"model": MODEL, "stream": False}, headers=HOME_ASSISTANT)
    assert told.json()["status"] == "success"
    missing = http.post("/api/pull", json={"model": "llama3.2", "stream": False}, headers=HOME_ASSISTANT)
    assert (missing.status_code, "models directory" in missing.json()["error"]) == (404, True)


def test_home_assistant_switches_a_light_on(home: Home, http: httpx.Client) -> None:
    ordered = {"role": "user", "content": make({"call": ["HassTurnOn", '{"area": "kitchen"}']})}
    told = lines(http.post("/api/chat", json=_spoken(ordered), headers=HOME_ASSISTANT))
    (called,) = [line["message"]["tool_calls"] for line in told if line["message"].get("tool_calls")]
    assert called[0]["function"]["arguments"] == {"area": "kitchen"}
    assert told[-1]["done"] is True
    assert any("num_ctx" in warning for warning in told[-1]["warnings"])
    assert any("keep_alive" in warning for warning in told[-1]["warnings"])
    # It sends the turn back as it keeps it: calls without ids, the result as text with the tool's name.
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": called[0]["function"]}]}
    result = {"role": "tool", "content": '{"success": true}', "tool_name": "HassTurnOn"}
    after = lines(http.post("/api/chat", json=_spoken(ordered, turn, result), headers=HOME_ASSISTANT))
    assert "".join(line["message"]["content"] for line in after) == '{"success": true}'
    job = home.last_chat()
    assert job.messages[2].calls[0].id == job.messages[3].call_id
    assert job.thinking.is_on is False


def test_home_assistants_task_wants_its_schema(home: Home, http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    asked = {**_spoken({"role": "user", "content": 'say {"colour": "red"}'}), "tools": None, "format": schema}
    told = lines(http.post("/api/chat", json=asked, headers=HOME_ASSISTANT))
    assert json.loads("".join(line["message"]["content"] for line in told)) == {"colour": "red"}
    assert json.loads(home.last_chat().json_schema or "") == schema


# ---- Open WebUI. Source: open-webui backend routers/ollama.py, openai.py, images.py, tasks.py.

OPEN_WEBUI = {
    "Content-Type": "application/json",
    "X-OpenWebUI-User-Name": "Ada",
    "X-OpenWebUI-User-Id": "7d1c",
    "X-OpenWebUI-User-Email": "ada@example.org",
    "X-OpenWebUI-User-Role": "admin",
}


def test_open_webui_over_ollama(http: httpx.Client) -> None:
    assert http.get("/api/version", headers=OPEN_WEBUI).json()["version"]
    (model,) = http.get("/api/tags", headers=OPEN_WEBUI).json()["models"]
    assert {"name", "model", "size", "digest", "details", "modified_at"} <= model.keys()
    (resident,) = http.get("/api/ps", headers=OPEN_WEBUI).json()["models"]
    assert datetime.fromisoformat(resident["expires_at"]).tzinfo is not None
    shown = http.post("/api/show", json={"model": NAME}, headers=OPEN_WEBUI).json()
    assert "completion" in shown["capabilities"]
    body = {
        "model": NAME,
        "messages": [{"role": "user", "content": "slow 3"}],
        "options": {},
        "stream": True,
        "metadata": {"chat_id": "1"},
    }
    told = lines(http.post("/api/chat", json=body, headers=OPEN_WEBUI))
    assert "".join(line["message"]["content"] for line in told) == "0 1 2 "
    assert told[-1]["eval_count"] == 3


def test_open_webui_over_openai(http: httpx.Client) -> None:
    """Its check and its list are the same call; beside each chat it asks for a title, tags and more."""
    key = {**OPEN_WEBUI, "Authorization": "Bearer sk-anything"}
    listed = http.get("/v1/models", headers=key).json()
    assert listed["object"] == "list"
    assert MODEL in [model["id"] for model in listed["data"]]
    body = {
        "stream": True,
        "model": MODEL,
        "messages": [{"role": "user", "content": "slow 3"}],
        "stream_options": {"include_usage": True},
    }
    told = events(http.post("/v1/chat/completions", json=body, headers=key))
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in told if each["choices"]) == (
        "0 1 2 "
    )
    assert told[-1]["usage"]["completion_tokens"] == 3
    title = {
        "model": MODEL,
        "messages": [{"role": "user", "content": 'say {"title": "Numbers"}'}],
        "stream": False,
        "max_completion_tokens": 1000,
    }
    answer = http.post("/v1/chat/completions", json=title, headers=key).json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"title": "Numbers"}


def test_open_webui_draws_over_openai(http: httpx.Client) -> None:
    body = {"model": "pictures", "prompt": "a fox", "n": 1, "size": "64x64", "response_format": "b64_json"}
    answer = http.post("/v1/images/generations", json=body, headers=OPEN_WEBUI).json()
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG")


def test_open_webui_draws_over_the_web_ui(http: httpx.Client) -> None:
    key = {"Authorization": "Basic " + base64.b64encode(b"user:password").decode()}
    options = http.get("/sdapi/v1/options", headers=key).json()
    models = http.get("/sdapi/v1/sd-models", headers=key).json()
    assert options["sd_model_checkpoint"] == models[0]["title"]
    options["sd_model_checkpoint"] = models[0]["title"]
    assert http.post("/sdapi/v1/options", json=options, headers=key).status_code == 200
    body = {
        "prompt": "a fox",
        "batch_size": 1,
        "width": 64,
        "height": 64,
        "negative_prompt": "",
        "steps": 50,
        "cfg_scale": None,
        "sampler_name": None,
        "scheduler": None,
    }
    drawn = http.post("/sdapi/v1/txt2img", json={k: v for k, v in body.items() if v is not None}, headers=key)
    assert drawn.status_code == 200, drawn.text
    assert base64.b64decode(drawn.json()["images"][0]).startswith(b"\x89PNG")
    assert json.loads(drawn.json()["info"])["seed"] > 0


# ---- Continue. Source: continuedev/continue core/llm/llms/Ollama.ts.


def test_continue_chats_and_is_told_it_cannot_fill_in(home: Home, http: httpx.Client) -> None:
    key = {"Content-Type": "application/json", "Authorization": "Bearer undefined"}
    shown = http.post("/api/show", json={"name": MODEL}, headers=key).json()
    assert ".Suffix" not in shown["template"], "what it looks for before it asks to fill in the middle"
    for line in shown["parameters"].splitlines():
        assert len(line.split(maxsplit=1)) == 2, "it takes each line apart at its first space"
    assert [model["name"] for model in http.get("/api/tags", headers=key).json()["models"]] == [NAME]
    options = {
        "temperature": 0.5,
        "top_p": None,
        "top_k": None,
        "num_predict": 256,
        "stop": ["<|im_end|>"],
        "num_ctx": 4096,
        "mirostat": None,
        "num_thread": None,
        "use_mmap": None,
        "min_p": None,
        "num_gpu": None,
    }
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "slow 3"}],
        "options": options,
        "keep_alive": 1800,
        "stream": True,
    }
    told = lines(http.post("/api/chat", json=body, headers=key))
    assert "".join(line["message"]["content"] for line in told) == "0 1 2 "
    assert home.last_chat().sampling.max_tokens == 256
    completed = {
        "model": MODEL,
        "prompt": "say x",
        "raw": False,
        "options": options,
        "keep_alive": 1800,
        "stream": True,
    }
    said = lines(http.post("/api/generate", json=completed, headers=key))
    assert "".join(line["response"] for line in said) == "x"


# ---- n8n, and everybody's first try: curl as it stands in Ollama's own documentation.


def test_curl_says_nothing_of_json(http: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "curl/8.5.0", "Accept": "*/*"}
    body = json.dumps({"model": MODEL, "prompt": "say Because of Rayleigh.", "stream": False})
    answer = http.post("/api/generate", content=body, headers=form)
    assert answer.json()["response"] == "Because of Rayleigh."


def test_a_first_look_asks_nobody(home: Home, http: httpx.Client) -> None:
    """All that is polled while a house sleeps leaves the queue as it is."""
    before = home.store.zcard(keys.JOBS)
    assert http.head("/").status_code == 200
    assert http.get("/").text == "Ollama is running"
    for path in ("/api/tags", "/api/ps", "/api/version", "/v1/models", "/health", "/sdapi/v1/options"):
        assert http.get(path).status_code == 200
    assert home.store.zcard(keys.JOBS) == before
