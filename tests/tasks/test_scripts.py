from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from tasks import events, keys, scripts

LUA = Path(scripts.__file__).parent / "lua"
NAMES = sorted(path.stem for path in LUA.glob("*.lua") if path.stem != "common")


@pytest.mark.parametrize("name", NAMES)
def test_every_script_says_what_it_takes_and_gives(name: str) -> None:
    text = (LUA / f"{name}.lua").read_text()
    assert text.startswith("#!lua")
    for part in ("-- keys:", "-- args:", "-- reply:"):
        assert part in text


@pytest.mark.parametrize("name", NAMES)
def test_every_script_is_one_that_redis_takes(name: str, store: redis.Redis) -> None:
    assert store.script_load(scripts.source(name))


@pytest.mark.parametrize("name", [*NAMES, "common"])
def test_no_script_names_a_key_of_its_own(name: str) -> None:
    text = (LUA / f"{name}.lua").read_text()
    assert keys.PREFIX not in text
    for word in re.findall(r"\bK\.(\w+)", text):
        assert word in scripts._KEYS
    for word in re.findall(r"\bE\.(\w+)", text):
        assert word in scripts._EVENTS


def test_only_new_work_is_refused_when_memory_is_full() -> None:
    flags = {name: scripts.source(name).splitlines()[0] for name in NAMES}
    refusing = [name for name in NAMES if "allow-oom" not in flags[name] and "no-writes" not in flags[name]]
    assert refusing == ["keep_document", "open_bulk", "submit"]


def test_a_redis_that_forgot_a_script_is_taught_it_again(store: redis.Redis) -> None:
    for _ in range(2):
        assert scripts.run(store, "cancel", "job_none", "requested", 1000) is None
        store.script_flush()


def test_fixed_words_are_events() -> None:
    for event in scripts._EVENTS.values():
        assert events.decode(events.encode(event)) == event
