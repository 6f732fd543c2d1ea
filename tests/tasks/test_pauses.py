from __future__ import annotations

import pytest
import redis.asyncio

from tasks import pauses
from tasks.jobs import JobClass
from tasks.pauses import Pause, Scope

CHAT_A, ALL, CHATS, OF_A = Scope(JobClass.CHAT, "a.b"), Scope(), Scope(JobClass.CHAT), Scope(model="a.b")


@pytest.mark.parametrize(
    ("scope", "paused"),
    [
        (ALL, {"chat.a.b", "batch.a.b", "chat.c"}),
        (CHATS, {"chat.a.b", "chat.c"}),
        (OF_A, {"chat.a.b", "batch.a.b"}),
        (CHAT_A, {"chat.a.b"}),
    ],
)
def test_a_scope_covers_its_queues(scope: Scope, paused: set[str]) -> None:
    queues = {"chat.a.b", "batch.a.b", "chat.c"}
    assert {name for name in queues if pauses.is_paused(name, {scope.key})} == paused


def test_the_widest_pause_is_named() -> None:
    narrow, wide = Pause("narrow", 1), Pause("wide", 2)
    assert pauses.over("chat.a.b", {CHAT_A.key: narrow, ALL.key: wide}) is wide
    assert pauses.over("chat.a.b", {CHAT_A.key: narrow}) is narrow
    assert pauses.over("chat.c", {CHAT_A.key: narrow}) is None


async def test_resuming_takes_back_what_lies_within(astore: redis.asyncio.Redis) -> None:
    for scope in (ALL, CHATS, OF_A, CHAT_A):
        await pauses.pause(astore, scope)
    await pauses.resume(astore, CHATS)
    assert set(await pauses.read(astore)) == {"*.*", "*.a.b"}
    await pauses.resume(astore, ALL)
    assert await pauses.read(astore) == {}


async def test_pausing_again_keeps_the_beginning_and_takes_the_new_words(astore: redis.asyncio.Redis) -> None:
    await pauses.pause(astore, CHATS)
    (first,) = (await pauses.read(astore)).values()
    await pauses.pause(astore, CHATS, message="dusting", rests=True)
    (second,) = (await pauses.read(astore)).values()
    assert first.message == "an operator has paused all chat queues"
    assert (second.message, second.rests, second.since_ms) == ("dusting", True, first.since_ms)
