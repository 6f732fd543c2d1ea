"""Who follows which journal, in two lanes: those that have news, and those where nothing happens.

A blocking read names every stream that it waits for, and is made anew after every event: it costs more the
more are followed. So journals that have been silent for a while are waited for by a read of their own, which
lasts until one of them speaks. Nothing here talks to Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

START = "0-0"
FEW = 16
"""So many journals cost nothing worth a second lane."""
SILENT_S = 1.0
"""A journal without news for so long has none for a while: its job waits."""

Position = tuple[int, int]


class Placed(Protocol):
    """Anything that has a place in a journal."""

    @property
    def id(self) -> str: ...


def position(stream_id: str) -> Position:
    ms, _, number = stream_id.partition("-")
    return int(ms), int(number)


@dataclass(slots=True, eq=False)
class Follower:
    """Somebody's place in a journal. The reader puts entries in, the follower takes them."""

    job_id: str
    after: str
    renew: bool
    inbox: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    def take(self, entries: Iterable[Placed]) -> None:
        reached = position(self.after)
        for entry in entries:
            # Another follower of this journal may be further back, so that what we know comes again.
            if position(entry.id) > reached:
                self.inbox.put_nowait(entry)
                self.after = entry.id


@dataclass(slots=True, eq=False)
class Group:
    """All who follow one journal, which had news last at ``heard_s`` (monotonic)."""

    followers: list[Follower]
    heard_s: float


class Lane:
    """The journals of one read. ``wake`` is the key of the stream that ends it, ``woken`` its place there."""

    def __init__(self, wake: str) -> None:
        self.wake = wake
        self.woken = START
        self.groups: dict[str, Group] = {}
        self.someone = asyncio.Event()

    def put(self, job_id: str, group: Group) -> None:
        self.groups[job_id] = group
        self.someone.set()

    def take(self, job_id: str) -> Group:
        group = self.groups.pop(job_id)
        if not self.groups:
            self.someone.clear()
        return group


def places(groups: Mapping[str, Sequence[Follower]]) -> dict[str, str]:
    """Where a read of each journal is to begin: behind what the follower furthest back has."""
    return {
        job_id: min((one.after for one in followers), key=position) for job_id, followers in groups.items()
    }


class Lanes:
    """Every follower of this process."""

    def __init__(self, lively: Lane, quiet: Lane) -> None:
        self.lively = lively
        self.quiet = quiet

    @property
    def groups(self) -> dict[str, Group]:
        return {**self.lively.groups, **self.quiet.groups}

    def add(self, follower: Follower) -> Lane:
        """The lane that has to be woken for it."""
        for lane in (self.lively, self.quiet):
            if (group := lane.groups.get(follower.job_id)) is not None:
                group.followers.append(follower)
                return lane
        self.lively.put(follower.job_id, Group([follower], time.monotonic()))
        return self.lively

    def remove(self, follower: Follower) -> Group:
        """The group it was in, perhaps empty now."""
        lane = self.lively if follower.job_id in self.lively.groups else self.quiet
        group = lane.groups[follower.job_id]
        group.followers.remove(follower)
        if not group.followers:
            lane.take(follower.job_id)
        return group

    def heard(self, job_ids: Iterable[str]) -> bool:
        """These have news. True when the lively lane has to be woken, because it got one of them."""
        now_s = time.monotonic()
        has_moved = False
        for job_id in job_ids:
            if (group := self.lively.groups.get(job_id)) is not None:
                group.heard_s = now_s
            elif job_id in self.quiet.groups:
                group = self.quiet.take(job_id)
                group.heard_s = now_s
                self.lively.put(job_id, group)
                has_moved = True
        return has_moved

    def settle(self) -> bool:
        """Silent journals leave the lively lane. True when the quiet one got some, and has to be woken."""
        if len(self.lively.groups) <= FEW:
            return False
        before_s = time.monotonic() - SILENT_S
        silent = [job_id for job_id, group in self.lively.groups.items() if group.heard_s < before_s]
        for job_id in silent:
            self.quiet.put(job_id, self.lively.take(job_id))
        return bool(silent)
