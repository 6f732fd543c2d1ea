"""``service_tier``: which class of jobs it leads to, and who may go ahead of others."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
import redis

from api.openai.request import Terms, chat_job, validated
from api.openai.schemas import ChatRequest
from api.openai.tiers import job_class, tier_of
from config.keyring import Keyring, Scope
from config.settings import Settings
from tasks.jobs import JobClass
from tests.api.conftest import Served, client_of
from tests.api.support import TINY, StandIn, ask

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("asked", "may_go_ahead", "given", "told", "warned"),
    [
        (None, True, JobClass.CHAT, "default", False),
        ("auto", True, JobClass.CHAT, "default", False),
        ("default", False, JobClass.CHAT, "default", False),
        ("flex", False, JobClass.BATCH, "flex", False),
        ("priority", True, JobClass.PRIORITY, "priority", False),
        ("fast", True, JobClass.PRIORITY, "priority", False),
        ("priority", False, JobClass.CHAT, "default", True),
        ("fast", False, JobClass.CHAT, "default", True),
        ("scale", True, JobClass.CHAT, "default", True),
    ],
)
def test_a_tier_is_given_or_another_one_is_told_of(
    asked: str | None, may_go_ahead: bool, given: JobClass, told: str, warned: bool
) -> None:
    request = validated(ChatRequest, ask(service_tier=asked))
    assert job_class(request, may_go_ahead=may_go_ahead) is given
    assert tier_of(given) == told
    job = chat_job(request, TINY, Terms("anonymous", given), Settings(redis_url=None))
    assert any("service_tier" in warning for warning in job.submission.warnings) == warned


@pytest.mark.parametrize(
    ("job_class", "has_reader", "wait_s"),
    [
        (JobClass.PRIORITY, True, 3600),
        (JobClass.CHAT, True, 3600),
        (JobClass.BATCH, True, 900),
        (JobClass.BATCH, False, 86400),
    ],
)
def test_who_waits_on_the_line_need_not_wait_for_a_day(
    job_class: JobClass, has_reader: bool, wait_s: int
) -> None:
    about = Terms("anonymous", job_class, has_reader=has_reader).submission(Settings(redis_url=None))
    assert about.deadline_at_ms == about.created_at_ms + wait_s * 1000


def _with(settings: Settings, **queue: Any) -> Settings:
    return settings.model_copy(update={"queue": settings.queue.model_copy(update=queue)})


async def _job(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = (await client.post("/v1/jobs", json=ask("x", **fields))).json()
    return told


async def test_priority_is_next_whoever_waits(client: httpx.AsyncClient, house: redis.Redis) -> None:
    waiting = [await _job(client) for _ in range(3)]
    assert [job["position"] for job in waiting] == [1, 2, 3]
    ahead = await _job(client, service_tier="priority")
    assert (ahead["queue"], ahead["position"]) == ("priority.tiny-chat", 1)
    assert (await _job(client, **{"class": "priority"}))["position"] == 2
    assert (await client.get(f"/v1/jobs/{waiting[0]['id']}")).json()["position"] == 3
    rows = (await client.get("/v1/queue")).json()["queues"]
    assert [row["class"] for row in rows] == ["priority", "chat"]
    paused = await client.post("/v1/queue/pause", json={"class": "priority"})
    assert [row["is_paused"] for row in paused.json()["queues"]] == [True, False]


async def test_how_many_go_ahead_is_bounded(settings: Settings, house: redis.Redis) -> None:
    async with client_of(_with(settings, priority_cap=1)) as client:
        assert (await _job(client, service_tier="priority"))["state"] == "queued"
        assert (await _job(client, service_tier="priority"))["error"]["code"] == "queue_full"
        assert (await _job(client))["state"] == "queued"


async def test_who_may_go_ahead_is_the_operators_to_say(settings: Settings, house: redis.Redis) -> None:
    ring = Keyring(settings.data_dir)
    keys = {scope: ring.add(scope.value, scope)[1] for scope in Scope}
    classes = {}
    for whose in ("all", "admin", "none"):
        async with client_of(_with(settings, priority_for=whose)) as client:
            for scope, key in keys.items():
                client.headers["authorization"] = f"Bearer {key}"
                given = (await _job(client, service_tier="priority"))["queue"].partition(".")[0]
                explicit = await _job(client, **{"class": "priority"})
                refused = (explicit["error"] or {}).get("param") == "class"
                assert refused == (given == "chat")
                classes[whose, scope] = given
    assert classes == {
        ("all", Scope.ADMIN): "priority",
        ("all", Scope.INFER): "priority",
        ("admin", Scope.ADMIN): "priority",
        ("admin", Scope.INFER): "chat",
        ("none", Scope.ADMIN): "chat",
        ("none", Scope.INFER): "chat",
    }


def test_the_sdk_is_told_its_tier(served: Served, worker: StandIn) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        question: Any = [{"role": "user", "content": "slow 2"}]
        for tier in ("flex", "priority", "default"):
            answer = sdk.chat.completions.create(
                model="tiny-chat",
                messages=question,
                service_tier=tier,
            )
            assert answer.service_tier == tier
