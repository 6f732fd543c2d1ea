"""Does what ``worker.recovery`` says for one card: starts the helper that reboots it, ends a stuck child."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from config.groups import RecoverySettings
from hardware.reboot import LIMIT_S, command
from tasks import board, keys
from worker import recovery
from worker.recovery import Act, Helper, Rung, Seen

log = logging.getLogger("hearth.recovery")

STALE_S = 5.0
"""A heartbeat older than this says nothing of what the card's process does now."""

Start = Callable[[Sequence[str]], "subprocess.Popen[bytes]"]


def _start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)


class Rescue:
    """One card's way down the ladder. Called once a beat; never waits."""

    def __init__(
        self, client: redis.Redis, card_id: str, limits: RecoverySettings, *, start: Start = _start
    ) -> None:
        self._client: Any = client
        self._card = card_id
        self._limits = limits
        self._start = start
        self._helper: subprocess.Popen[bytes] | None = None
        self._helper_since_s = 0.0
        self.state = recovery.State()

    def beat(self, beat: board.Heartbeat | None, *, is_read: bool) -> str | None:
        """Look, and do what is due. Returns what to tell of a card that is not well; None when it is."""
        now_ms = time.time() * 1000
        is_fresh = beat is not None and now_ms - beat.at_ms < STALE_S * 1000
        is_stalled = is_stuck(beat, now_ms)
        seen = Seen(
            at_s=time.monotonic(),
            is_reported=bool(self._client.exists(keys.lost(self._card))),
            is_stalled=is_stalled,
            is_read=is_read,
            is_loading=is_fresh and beat is not None and beat.loading is not None and not is_stalled,
            is_served=is_fresh,
            helper=self._look_at_helper(),
        )
        before = self.state.rung
        self.state, act = recovery.step(self.state, seen, self._limits)
        if self.state.rung is not before:
            self._say(before, beat)
        if self.state.rung is Rung.DOUBTED and is_stalled and beat is not None and beat.job is not None:
            self._excuse(beat.job)
        if act is Act.REBOOT:
            self._reboot()
        elif act is Act.KILL and beat is not None:
            self._kill(beat)
        return None if self.state.rung is Rung.WELL else recovery.message(self.state, self._limits)

    def _say(self, before: Rung, beat: board.Heartbeat | None) -> None:
        if self.state.rung is Rung.WELL:
            log.warning("card %s is back", self._card)
            return
        if self.state.rung is Rung.DOUBTED and is_stuck(beat, time.time() * 1000) and beat is not None:
            since_s = time.time() - (beat.call_since_ms or 0) / 1000
            log.error(
                "card %s is stuck: job %s has been in one call for %.0f s, the limit is %.0f s",
                self._card,
                beat.job,
                since_s,
                beat.call_limit_s or 0.0,
            )
        told = recovery.message(self.state, self._limits)
        log.warning("card %s: %s -> %s: %s", self._card, before, self.state.rung, told)

    def _reboot(self) -> None:
        try:
            self._helper = self._start(command(self._card))
        except OSError as error:
            log.error("card %s cannot be rebooted: %s", self._card, error)
            return
        self._helper_since_s = time.monotonic()

    def _look_at_helper(self) -> Helper | None:
        helper = self._helper
        if helper is None:
            return None
        status = helper.poll()
        if status is None and time.monotonic() - self._helper_since_s < LIMIT_S:
            return Helper.RUNNING
        if status is None:
            log.error("card %s: the reboot gave no answer in %.0f s", self._card, LIMIT_S)
            helper.kill()
            helper.wait()
        self._helper = None
        return Helper.DONE if status == 0 else Helper.FAILED

    def _excuse(self, job_id: str) -> None:
        """The card is at fault, not the job: what becomes of its process is no strike."""
        job = keys.job(job_id)
        if self._client.hget(job, "state") == b"running":
            self._client.hset(job, "excused", 1)

    def _kill(self, beat: board.Heartbeat) -> None:
        """End the process that is stuck. Its card has been rebooted, so there is nothing left to harm."""
        if not _is_worker(beat.pid):
            log.error("card %s: process %d, which is stuck, is not of this machine", self._card, beat.pid)
            return
        log.error(
            "card %s: process %d is stuck in a call to a card that is gone; ended", self._card, beat.pid
        )
        with suppress(ProcessLookupError):
            os.kill(beat.pid, signal.SIGKILL)


def is_stuck(beat: board.Heartbeat | None, now_ms: float) -> bool:
    """Whether a call into the card is under way that should have ended."""
    if beat is None or beat.call_since_ms is None or beat.call_limit_s is None:
        return False
    return now_ms > beat.call_since_ms + beat.call_limit_s * 1000


def _is_worker(pid: int) -> bool:
    """Whether ``pid`` is a worker on this machine: a process id from another says nothing here."""
    with suppress(OSError):
        return b"npu" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
