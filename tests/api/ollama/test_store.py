"""Packages through Ollama's SDK: pulled from a catalogue on this machine, and deleted."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import httpx
import ollama
import pytest
import redis

from api import unloading
from api.packages import copying, removal, shelf
from config.keyring import Keyring, Scope
from config.settings import Settings
from tasks import keys
from tasks.claim import claimed
from tasks.connection import connect
from tasks.events import Finished, Timings, Usage
from tasks.jobs import FinishReason, JobId, ModelJob
from tasks.ownership import take_card
from tests.api.conftest import client_of, serve
from tests.api.ollama.catalogue import LAYER, put, watching
from tests.api.support import CARD, ask, until

Sdk = ollama.AsyncClient


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    catalogue = tmp_path / "stick"
    catalogue.mkdir()
    (settings.data_dir / "models").mkdir(parents=True)
    models = settings.models.model_copy(
        update={"catalogue": (catalogue,), "catalogue_allow": ("tiny-*", "bad-*")}
    )
    return settings.model_copy(update={"models": models})


@pytest.fixture
def catalogue(settings: Settings) -> Path:
    return settings.models.catalogue[0]


@pytest.fixture
def monitor(settings: Settings, house: redis.Redis) -> Iterator[None]:
    with watching(settings, house):
        yield


@pytest.fixture
async def sdk(client: httpx.AsyncClient) -> AsyncIterator[Sdk]:
    async with ollama.AsyncClient(host=str(client.base_url), transport=client._transport) as made:
        yield made


async def test_a_package_of_the_catalogue_is_pulled_and_listed(
    sdk: Sdk, catalogue: Path, settings: Settings, monitor: None
) -> None:
    put(catalogue, "Tiny-2B")
    told = [part async for part in await sdk.pull("tiny:2b", stream=True)]
    statuses = list(dict.fromkeys(part.status or "" for part in told))
    assert statuses[0] == "pulling manifest"
    assert statuses[1].startswith("pulling ")
    assert statuses[2:] == ["verifying sizes", "writing manifest", "success"]
    (layer,) = {part.digest for part in told if part.digest}
    assert layer.removeprefix("sha256:").startswith(statuses[1].removeprefix("pulling "))
    assert {part.total for part in told if part.digest} == {6002}
    assert max(part.completed or 0 for part in told) == 6002
    assert "tiny-2b:latest" in [model.model for model in (await sdk.list()).models]
    assert (settings.packages_dir / "Tiny-2B" / "config.json").read_text() == "{}"
    assert (await sdk.show("tiny:2b")).details is not None, "it goes by the name it was pulled by"


async def test_what_is_here_succeeds_at_once_whatever_it_does(sdk: Sdk, house: redis.Redis) -> None:
    for name in ("tiny-chat:latest", "tiny", "pictures"):
        assert (await sdk.pull(name)).status == "success"
        assert [part.status async for part in await sdk.pull(name, stream=True)] == [
            "pulling manifest",
            "success",
        ]


async def test_a_house_without_any_model_can_pull_its_first(
    sdk: Sdk, catalogue: Path, house: redis.Redis, settings: Settings
) -> None:
    house.delete(keys.CATALOG)
    settings.packages_dir.rmdir()  # nor is there a directory for it yet
    put(catalogue, "tiny-first")
    pulling = asyncio.create_task(sdk.pull("tiny-first"))
    while not (settings.packages_dir / "tiny-first").exists():  # noqa: ASYNC110 - a thread has no event here
        await asyncio.sleep(0.01)
    with watching(settings, house):
        assert (await pulling).status == "success"


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("llama3.2", 404, "what can be pulled: bad-1b, tiny-2b"),
        ("secret", 403, "CATALOGUE_ALLOW"),
        ("broken", 400, "the post graph is missing"),
        ("bad-1b", 400, "bad-1b is here, but cannot be used: the post graph is missing"),
        ("tiny-linked", 400, "leads out of the catalogue"),
        ("../models", 404, "there is no model"),
    ],
)
async def test_what_cannot_be_pulled_says_why(
    sdk: Sdk, catalogue: Path, monitor: None, name: str, status: int, told: str
) -> None:
    for each in ("tiny-2b", "bad-1b", "secret"):
        put(catalogue, each)
    if name == "tiny-linked":
        (put(catalogue, name) / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(ollama.ResponseError, match=told) as refused:
        await sdk.pull(name)
    assert refused.value.status_code == status


async def test_an_error_on_the_way_is_a_line(
    client: httpx.AsyncClient, catalogue: Path, monitor: None
) -> None:
    put(catalogue, "bad-1b")
    response = await client.post("/api/pull", json={"model": "bad-1b"})
    *_, before, last = [json.loads(line) for line in response.text.splitlines()]
    assert response.headers["content-type"] == "application/x-ndjson"
    assert before == {"status": "writing manifest"}
    assert list(last) == ["error"]


async def test_two_pulls_of_one_package_are_one(
    sdk: Sdk, catalogue: Path, monitor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(catalogue, "tiny-2b")
    runs: list[str] = []
    run = copying.Copying.run

    def counted(self: copying.Copying) -> Path:
        runs.append(str(self.target))
        return run(self)

    monkeypatch.setattr(copying.Copying, "run", counted)
    told = await asyncio.gather(*(sdk.pull(name) for name in ("tiny-2b", "tiny:2b", "tiny-2b:latest")))
    assert [each.status for each in told] == ["success"] * 3
    assert len(runs) == 1


async def test_a_pull_that_nobody_follows_stops_and_the_next_one_goes_on(
    settings: Settings, catalogue: Path, monitor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(catalogue, "tiny-2b")
    monkeypatch.setattr(copying, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(copying, "_TELL_EVERY_S", 0.0)
    gate = threading.Semaphore(3)
    go_on = copying.Copying._go_on

    def slowly(self: copying.Copying) -> None:
        gate.acquire()
        go_on(self)

    monkeypatch.setattr(copying.Copying, "_go_on", slowly)
    async with client_of(settings) as client:
        shared = client._transport.app.state.context  # type: ignore[attr-defined]
        package = shelf.find(settings.models, "tiny-2b")
        going = (package, settings.packages_dir, shared.board, shared.closing)
        pull = await shared.pulls.join(*going)
        async with aclosing(pull.follow()) as lines:
            async for line in lines:
                if line.get("completed", 0) > 2:  # config.json is there, and a piece of layer0
                    break
        assert pull.is_stopping
        joining = asyncio.create_task(shared.pulls.join(*going))
        for _ in range(100):
            gate.release()
        again = await joining
        assert again is not pull, "who comes while it stops does not join it"
        with pytest.raises(copying.Stopped):
            pull.done.result()
        (staging,) = settings.packages_dir.glob(".pull-*")
        assert [line async for line in again.follow()][-1] == {"status": "writing manifest"}
        assert not staging.exists()
        assert (settings.packages_dir / "tiny-2b" / "layer0").stat().st_size == len(LAYER)


def test_a_client_that_leaves_ends_its_pull_and_so_does_the_process(
    settings: Settings, house: redis.Redis, catalogue: Path
) -> None:
    """On a real server, without a monitor: a pull waits a minute for it."""
    put(catalogue, "tiny-2b")
    running = serve(settings, HEARTH_MODELS__CATALOGUE=json.dumps([str(catalogue)]))
    try:
        asked = ("POST", f"{running.url}/api/pull")
        with httpx.stream(*asked, json={"model": "tiny-2b"}, timeout=20) as pulling:
            lines = (json.loads(line) for line in pulling.iter_lines())
            while next(lines)["status"] != "writing manifest":
                pass
        until(lambda: "the pull of tiny-2b stops: nobody follows it" in running.log.read_text())
        with httpx.stream(*asked, json={"model": "tiny-2b"}, timeout=20) as pulling:
            told = pulling.iter_lines()
            assert next(told)
            assert running.terminate() == 0
            *_, last = told
        assert "shutting down" in json.loads(last)["error"]
    finally:
        running.process.kill()
        running.process.wait()


async def test_a_model_is_deleted(sdk: Sdk, settings: Settings, monitor: None) -> None:
    place = put(settings.packages_dir, "mine")
    await _listed(sdk, "mine:latest")
    assert (await sdk.delete("mine")).status == "success"
    assert not place.exists()
    assert list(settings.packages_dir.iterdir()) == []
    assert "mine:latest" not in [model.model for model in (await sdk.list()).models]
    with pytest.raises(ollama.ResponseError, match="there is no model") as gone:
        await sdk.delete("mine")
    assert gone.value.status_code == 404


async def _listed(sdk: Sdk, name: str) -> None:
    # A thread has no event here.
    while name not in [model.model for model in (await sdk.list()).models]:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_a_package_that_is_a_link_is_removed_and_what_it_leads_to_stays(
    sdk: Sdk, settings: Settings, monitor: None, tmp_path: Path
) -> None:
    real = put(tmp_path / "elsewhere", "mine")
    (settings.packages_dir / "mine").symlink_to(real)
    await _listed(sdk, "mine:latest")
    await sdk.delete("mine")
    assert not (settings.packages_dir / "mine").is_symlink()
    assert (real / "layer0").exists()


@pytest.mark.parametrize(("name", "told"), [("tiny-chat", "demo models"), ("broken", "outside the models")])
async def test_what_is_not_ours_is_never_deleted(sdk: Sdk, name: str, told: str) -> None:
    with pytest.raises(ollama.ResponseError, match=told) as refused:
        await sdk.delete(name)
    assert refused.value.status_code == 403


async def test_a_model_that_jobs_need_stays(
    sdk: Sdk, client: httpx.AsyncClient, settings: Settings, monitor: None
) -> None:
    place = put(settings.packages_dir, "mine")
    await _listed(sdk, "mine:latest")
    job = (await client.post("/v1/jobs", json={**ask(), "kind": "chat", "model": "mine"})).json()
    with pytest.raises(ollama.ResponseError, match="1 job needs 'mine'") as refused:
        await sdk.delete("mine")
    assert refused.value.status_code == 409
    assert place.exists()
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await sdk.delete("mine")
    assert not place.exists()


async def test_a_model_on_the_card_is_taken_off_first(
    sdk: Sdk, settings: Settings, house: redis.Redis, monitor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(settings.packages_dir, "mine")
    await _listed(sdk, "mine:latest")

    async def resident(*_: object) -> bool:
        return True

    monkeypatch.setattr(unloading, "_is_resident", resident)
    deleting = asyncio.create_task(sdk.delete("mine"))
    job = await asyncio.to_thread(_unload_as_a_worker_does, settings, place)
    assert (job.action, job.model) == ("unload", "mine")
    assert (await deleting).status == "success"
    assert not place.exists()


async def test_ollama_stop_takes_the_model_off_the_card(
    sdk: Sdk, settings: Settings, monitor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(settings.packages_dir, "mine")
    await _listed(sdk, "mine:latest")
    answer = await sdk.generate("mine", keep_alive=0)
    assert (answer.done, answer.done_reason, answer.response) == (True, "unload", ""), "it was on no card"

    async def resident(*_: object) -> bool:
        return True

    monkeypatch.setattr(unloading, "_is_resident", resident)
    stopping = asyncio.create_task(sdk.chat("mine", keep_alive="0s"))
    job = await asyncio.to_thread(_unload_as_a_worker_does, settings, place)
    assert (job.action, job.model) == ("unload", "mine")
    assert (await stopping).done_reason == "unload"


def _unload_as_a_worker_does(settings: Settings, place: Path) -> ModelJob:
    with connect(settings) as client:
        owner = take_card(CARD, client, settings)
        until(lambda: client.zcard(keys.READY))
        (job_id,) = client.zrange(keys.READY, 0, 0)
        with claimed(JobId(job_id.decode()), owner) as claim:
            assert claim is not None
            assert isinstance(claim.job, ModelJob)
            assert place.exists(), "its files went before it was off the card"
            claim.append(Finished(FinishReason.STOP, Usage(0, 0), Timings()))
            return claim.job


async def test_a_model_that_cannot_be_taken_off_the_card_stays(
    sdk: Sdk, settings: Settings, house: redis.Redis, monitor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(settings.packages_dir, "mine")
    await _listed(sdk, "mine:latest")

    async def resident(*_: object) -> bool:
        return True

    monkeypatch.setattr(unloading, "_is_resident", resident)
    monkeypatch.setattr(unloading, "PATIENCE_S", 0.1)
    with pytest.raises(ollama.ResponseError, match="is the queue paused, or the card held"):
        await sdk.delete("mine")
    assert place.exists()
    assert house.zcard(keys.READY) == 0, "the unload would still come"


def test_what_a_dead_process_left_is_tidied_and_what_can_go_on_is_kept(tmp_path: Path) -> None:
    for name in (".trash-old-1234", ".pull-tiny-0011", "tiny"):
        put(tmp_path, name)
    removal.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pull-tiny-0011", "tiny"]
    removal._STALE_S = -1.0
    try:
        removal.tidy(tmp_path)
    finally:
        removal._STALE_S = 7 * 86400.0
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


async def test_who_may_pull_and_who_may_delete(
    settings: Settings, house: redis.Redis, catalogue: Path, monitor: None
) -> None:
    ring = Keyring(settings.data_dir)
    infer, admin = (
        {"Authorization": f"Bearer {ring.add(scope, scope)[1]}"} for scope in (Scope.INFER, Scope.ADMIN)
    )
    put(catalogue, "tiny-2b")
    body = {"model": "tiny-2b", "stream": False}
    async with client_of(settings) as client:
        assert (await client.post("/api/pull", json=body)).status_code == 401
        assert (await client.post("/api/pull", json=body, headers=infer)).status_code == 200
        refused = await client.request("DELETE", "/api/delete", json=body, headers=infer)
        assert refused.status_code == 403
        assert "scope 'admin'" in refused.json()["error"]
        done = await client.request("DELETE", "/api/delete", json=body, headers=admin)
        assert (done.status_code, done.content) == (200, b"")
