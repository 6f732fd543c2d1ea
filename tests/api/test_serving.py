"""The real server: its connections, its readers, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from api.__main__ import main
from config.settings import CHECKOUT, Settings
from config.settings import settings as read_once
from tasks import keys
from tests.api.conftest import Served, serve
from tests.api.support import StandIn, ask, chunks, publish, until
from tests.conftest import RedisServer

CHAT = "/v1/chat/completions"


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        yield client


def _state(house: redis.Redis, job_id: str) -> str:
    state = house.hget(keys.job(job_id), "state")
    return state.decode() if isinstance(state, bytes) else "none"


def _talk(url: str, head: str, body: bytes = b"") -> bytes:
    """One request as written, all that comes back."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(head.replace("\n", "\r\n").encode() + body)
        answer = b""
        while piece := line.recv(65536):
            answer += piece
    return answer


def test_the_process_is_lean(mortal: Served, worker: StandIn) -> None:
    with httpx.Client(base_url=mortal.url, timeout=30) as http:
        for _ in range(10):
            assert http.post(CHAT, json=ask("burst 50", stream=True)).status_code == 200
            assert http.get("/docs").status_code == 200
    assert psutil.Process(mortal.process.pid).memory_info().rss < 110e6


def test_it_imports_nothing_heavy() -> None:
    check = (
        "import sys, api.main; print([name for name in sys.modules if name.split('.')[0] in sys.argv[1:]])"
    )
    heavy = [
        "numpy",
        "transformers",
        "torch",
        "onnxruntime",
        "llguidance",
        "PIL",
        "models",
        "hardware",
        "worker",
        "openai",
    ]
    told = subprocess.run(
        [sys.executable, "-c", check, *heavy], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_the_first_piece_comes_before_the_last_is_made(http: httpx.Client, worker: StandIn) -> None:
    with http.stream("POST", CHAT, json=ask("slow 50", stream=True)) as response:
        began = time.monotonic()
        arrivals = [time.monotonic() - began for line in response.iter_lines() if line.startswith("data: {")]
    # The pieces are made over a second.
    assert arrivals[-1] - arrivals[0] > 0.5


def test_thirty_two_streams_arrive_whole_and_in_order(http: httpx.Client, worker: StandIn) -> None:
    texts: list[str] = []

    def read() -> None:
        told = chunks(http.post(CHAT, json=ask("burst 200", stream=True)).text)
        texts.append(
            "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in told[:-1])
        )

    readers = [threading.Thread(target=read) for _ in range(32)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(30)
    assert texts == ["".join(f"{n} " for n in range(200))] * 32


def test_a_call_that_is_closed_cancels_its_job_at_once(
    served: Served, worker: StandIn, house: redis.Redis
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(served.url + CHAT, json=ask("wait"), timeout=0.7)
    until(lambda: worker.seen and _state(house, worker.seen[0]) == "cancelled", 3)


def test_a_kept_job_outlives_its_caller(served: Served, worker: StandIn, house: redis.Redis) -> None:
    headers = {"x-hearth-keep": "true"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(served.url + CHAT, json=ask("slow 60"), headers=headers, timeout=0.5)
    until(lambda: worker.seen and _state(house, worker.seen[0]) == "succeeded", 5)


def test_a_stream_that_is_left_loses_its_reader(served: Served, worker: StandIn, house: redis.Redis) -> None:
    with httpx.stream("POST", served.url + CHAT, json=ask("wait", stream=True)) as response:
        job_id = response.headers["x-job-id"]
        # Kept: an iterator that is dropped half-way closes the connection.
        lines = response.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        until(lambda: house.exists(keys.reader(job_id)))
    until(lambda: not house.exists(keys.reader(job_id)), 3)
    assert _state(house, job_id) == "running"
    httpx.post(f"{served.url}/v1/jobs/{job_id}/cancel")


def test_a_stream_can_be_taken_up_by_its_job(http: httpx.Client, worker: StandIn) -> None:
    text, last = "", ""
    with http.stream("POST", CHAT, json=ask("slow 30", stream=True)) as response:
        job_id = response.headers["x-job-id"]
        for line in response.iter_lines():
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
            if line.startswith("data: "):
                text += json.loads(line[6:])["choices"][0]["delta"]["content"]
            if text.count(" ") >= 5:
                break
    rest = http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last})
    text += "".join(json.loads(chunk).get("text", "") for chunk in chunks(rest.text))
    assert text == "".join(f"{n} " for n in range(30))


def test_open_streams_end_properly_when_the_server_leaves(
    mortal: Served, worker: StandIn, house: redis.Redis
) -> None:
    told: dict[str, str] = {}
    heard = threading.Semaphore(0)

    def listen(name: str, method: str, path: str, body: Any = None) -> None:
        with httpx.stream(method, mortal.url + path, json=body, timeout=20) as response:
            for line in response.iter_lines():
                told[name] = told.get(name, "") + line + "\n"
                if line.startswith("data: "):
                    heard.release()

    def wait() -> None:
        response = httpx.post(mortal.url + CHAT, json=ask("wait"), timeout=20)
        told["whole"], told["retry-after"] = response.text, response.headers["retry-after"]
        told["job"] = response.headers["x-job-id"]
        assert response.status_code == 503

    native = httpx.post(mortal.url + "/v1/jobs", json=ask("wait"), timeout=20).json()
    threads = [
        threading.Thread(target=listen, args=("chat", "POST", CHAT, ask("wait", stream=True))),
        threading.Thread(target=listen, args=("events", "GET", native["urls"]["events"])),
        threading.Thread(target=wait),
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(worker.seen) == 3)
    assert heard.acquire(timeout=30)
    until(lambda: "chat" in told and "events" in told)
    began = time.monotonic()
    assert mortal.terminate() == 0
    assert not (mortal.log.parent / "api.port").exists()
    assert time.monotonic() - began < 4
    for thread in threads:
        thread.join(5)
    assert json.loads(chunks(told["chat"])[-1])["error"]["code"] == "shutting_down"
    assert json.loads(told["whole"])["error"]["code"] == "shutting_down"
    assert "resume with Last-Event-ID" in told["events"]
    # Nobody waited on the line for the native job: it goes on. The other will be asked for again.
    assert _state(house, native["id"]) == "running"
    until(lambda: _state(house, told["job"]) == "cancelled", 3)


def test_silence_is_broken_by_comments(
    settings: Settings, house: redis.Redis, worker: StandIn, http: httpx.Client
) -> None:
    worker.pause()
    http.post("/v1/jobs", json=ask("say x"))
    told: list[tuple[float, str]] = []
    began = time.monotonic()
    with http.stream("POST", CHAT, json=ask("say x", stream=True)) as response:
        for line in response.iter_lines():
            if line:
                told.append((time.monotonic() - began, line))
            if len(told) == 2:
                worker.resume()
            if line == "data: [DONE]":
                break
    assert told[0][1] == told[1][1] == ": queued position=2"
    assert told[0][0] < 3, "the first one comes at once, the next one 5 s later"
    assert 4 <= told[1][0] - told[0][0] <= 9


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """``python -m api`` as far as its settings and its port, in this process."""

    def run_with(**variables: str) -> tuple[int, str]:
        for name in [name for name in os.environ if name.startswith("HEARTH_")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        read_once.cache_clear()
        return main(), capsys.readouterr().err

    yield run_with
    read_once.cache_clear()


def test_a_data_directory_that_cannot_be_used_is_told_in_one_line(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, said = run(
        HEARTH_PORT="0", HEARTH_REDIS_URL="unix:///none", HEARTH_DATA_DIR=str(tmp_path / "file" / "data")
    )
    assert code == 1
    assert said.startswith(f"hearth api: cannot write in {tmp_path}/file/data: ")
    assert said.endswith("; correct HEARTH_DATA_DIR\n")


def test_a_port_in_use_is_told_in_one_line(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, told = run(HEARTH_REDIS_URL="unix:///x", HEARTH_PORT=port, HEARTH_DATA_DIR=str(tmp_path))
    assert code == 1
    assert told.count("\n") == 1
    assert port in told
    assert "in use" in told


def test_a_further_port_in_use_names_its_setting(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        places = {"HEARTH_REDIS_URL": "unix:///x", "HEARTH_DATA_DIR": str(tmp_path)}
        code, told = run(HEARTH_PORT="0", HEARTH_OLLAMA_PORT=port, **places)
    assert code == 1
    assert told.count("\n") == 1
    assert f"127.0.0.1:{port}" in told
    assert "HEARTH_OLLAMA_PORT" in told


def test_it_listens_on_every_port_it_was_given_and_leaves_them_all(
    settings: Settings, house: redis.Redis
) -> None:
    running = serve(settings, HEARTH_OLLAMA_PORT="0", HEARTH_A1111_PORT="0")
    try:
        urls = re.findall(r"listening on (http://[\d.:]+)", running.log.read_text())
        assert len(set(urls)) == 3
        assert urls[0] == running.url
        assert httpx.get(f"{urls[1]}/api/tags").json()["models"]
        assert httpx.get(f"{urls[2]}/sdapi/v1/sd-models").json()
        with httpx.stream("POST", f"{urls[1]}{CHAT}", json=ask("x", stream=True), timeout=20) as waiting:
            assert running.terminate() == 0, "a stream on another port than the first kept it"
            assert "shutting_down" in waiting.read().decode()
    finally:
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize(
    ("variables", "word"),
    [({}, "redis_url"), ({"HEARTH_HOST": "192.0.2.1"}, "API_KEY"), ({"HEARTH_PORTT": "1"}, "PORTT")],
)
def test_a_wrong_setting_is_told_in_one_line(
    run: Callable[..., tuple[int, str]], variables: dict[str, str], word: str
) -> None:
    code, told = run(**variables)
    assert code == 2
    assert told.count("\n") == 1
    assert word in told


def test_a_body_that_waits_for_our_consent_is_refused_unsent(served: Served) -> None:
    head = (
        "POST /v1/jobs HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        "Content-Length: 40000000\nExpect: 100-continue\n\n"
    )
    answer = _talk(served.url, head)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"payload_too_large" in answer


def test_a_body_of_ten_megabytes_is_answered_over_a_real_connection(http: httpx.Client) -> None:
    response = http.post(CHAT, json=ask("x" * 10_000_000))
    assert response.status_code == 413
    assert http.get("/health").status_code == 200


def test_what_is_not_even_http_does_no_harm(served: Served, http: httpx.Client) -> None:
    for head in (
        "GET\n\n",
        "GET / HTTP/9\n\n",
        "\x00\x01\x02\n\n",
        "POST /v1/jobs HTTP/1.1\nContent-Length: -5\n\n",
    ):
        assert not _talk(served.url, head).startswith(b"HTTP/1.1 5")
        assert http.get("/health").status_code == 200


def test_metadata_is_quick_while_the_card_is_busy(http: httpx.Client, worker: StandIn) -> None:
    for _ in range(20):
        http.post("/v1/jobs", json=ask("slow 20"))
    taken = []
    for _ in range(100):
        began = time.perf_counter()
        assert http.get("/v1/models").status_code == 200
        taken.append(time.perf_counter() - began)
    assert sorted(taken)[50] < 0.05


async def test_a_crowd_of_readers_is_served(served: Served, worker: StandIn) -> None:
    worker.pause()
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=served.url, timeout=30, limits=limits) as client:
        jobs = [{**ask(f"say {n}"), "class": "batch"} for n in range(150)]
        listed = (await client.post("/v1/jobs", json=jobs)).json()
        reading = [asyncio.create_task(client.get(job["urls"]["events"])) for job in listed["data"]]
        await asyncio.sleep(0.5)
        worker.resume()
        told = await asyncio.gather(*reading)
    assert {response.status_code for response in told} == {200}
    for n, response in enumerate(told):
        assert f'"text":"{n}"' in response.text


def test_after_redis_comes_back_the_api_serves_again(settings: Settings, tmp_path_factory: Any) -> None:
    server = RedisServer(tmp_path_factory.mktemp("away"))
    own = settings.model_copy(
        update={"redis_url": type(settings.redis_url)(server.url), "data_dir": settings.data_dir / "own"}  # type: ignore[misc]
    )
    running = serve(own)
    try:
        server.kill()
        response = httpx.get(running.url + "/v1/queue", timeout=10)
        assert response.status_code == 503
        assert httpx.get(running.url + "/health").status_code == 200
        server.start()
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            publish(client)
        until(lambda: httpx.get(running.url + "/v1/models").status_code == 200)
        stand_in = StandIn(own)
        stand_in.start()
        told = httpx.post(running.url + CHAT, json=ask("say back"), timeout=10)
        stand_in.stop()
        assert told.json()["choices"][0]["message"]["content"] == "back"
        assert running.terminate() == 0
    finally:
        running.process.kill()
        running.process.wait()
        server.kill()
