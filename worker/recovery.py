"""Getting a lost card back: the ladder, one rung per beat. Pure; ``worker.rescue`` does what it says.

A card is doubted when its worker reported it lost, or when a call into it passed its limit. It is rebooted
only when its health cannot be read either, or when it was lost again right after it had been opened anew:
never because of its health alone (a slow ``axcl-smi`` is no dead card), never while a model loads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

SPACING_S = (0.0, 120.0, 600.0)
"""When, after the first loss, the first, second and third reboot may come."""
REOPEN_S = 90.0
"""By then a new process should have the card, once it has booted."""
RELAPSE_S = 120.0
"""A card lost again so soon after it was opened is lost, whatever its health says."""


class Rung(StrEnum):
    """Where on the ladder a card is."""

    WELL = "well"
    DOUBTED = "doubted"
    """Lost, so says its worker or a call that does not end. Its health decides."""
    REBOOTING = "rebooting"
    SETTLING = "settling"
    """It boots: nobody touches it."""
    REOPENING = "reopening"
    """A new process is to open it."""
    GIVEN_UP = "given_up"
    """Only a person can help."""


class Act(StrEnum):
    """What is to be done at this beat."""

    REBOOT = "reboot"
    KILL = "kill"
    """The card's process is stuck in a call that the reboot has made pointless."""


class Helper(StrEnum):
    """The process that reboots the card."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Limits(Protocol):
    """The part of the settings that is looked at (``RecoverySettings`` is one)."""

    @property
    def reboots(self) -> int: ...

    @property
    def confirm_s(self) -> float: ...

    @property
    def settle_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One beat. ``at_s`` is of a steady clock.

    ``is_reported``: the card's process said that it is lost; ``is_stalled``: it is in a call past its limit.
    ``is_served``: a process owns the card and says that it lives.
    """

    at_s: float
    is_reported: bool
    is_stalled: bool
    is_read: bool
    is_loading: bool
    is_served: bool
    helper: Helper | None = None

    @property
    def is_lost(self) -> bool:
        return self.is_reported or self.is_stalled


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from beat to beat.

    ``first_s``: when the trouble began that ``reboots`` are counted for; ``blind_s``: since when its health
    could not be read; ``well_s``: since when it was well; ``is_relapse``: it was lost again too soon.
    """

    rung: Rung = Rung.WELL
    since_s: float = 0.0
    first_s: float = 0.0
    reboots: int = 0
    blind_s: float | None = None
    well_s: float = -math.inf
    is_relapse: bool = False


def step(state: State, seen: Seen, limits: Limits) -> tuple[State, Act | None]:
    """The state after one beat, and what to do now."""
    blind_s = None if seen.is_read else (seen.at_s if state.blind_s is None else state.blind_s)
    state = replace(state, blind_s=blind_s)
    match state.rung:
        case Rung.WELL:
            return (_doubted(state, seen), None) if seen.is_lost else (state, None)
        case Rung.DOUBTED:
            return _judged(state, seen, limits)
        case Rung.REBOOTING:
            is_over = seen.helper in (Helper.DONE, Helper.FAILED, None)
            return (_on(state, Rung.SETTLING, seen), None) if is_over else (state, None)
        case Rung.SETTLING:
            if seen.at_s - state.since_s < limits.settle_s:
                return state, None
            return _on(state, Rung.REOPENING, seen), Act.KILL if seen.is_stalled else None
        case Rung.REOPENING | Rung.GIVEN_UP:
            return _reopened(state, seen, limits), None


def message(state: State, limits: Limits) -> str:
    """What is told of a card that is not well."""
    tried = f"reboot {state.reboots} of {limits.reboots}"
    match state.rung:
        case Rung.DOUBTED:
            return "the card does not answer; it is watched, and rebooted if it stays silent"
        case Rung.REBOOTING | Rung.SETTLING:
            return f"the card was lost and boots anew ({tried}); jobs wait in the queue"
        case Rung.REOPENING:
            return f"the card has booted ({tried}); its models are loaded again"
        case _:
            return (
                f"the card did not come back after {state.reboots} reboots: shut the machine down, take it "
                "off the power at the wall for ten seconds, and start it again; a restart alone does not "
                "reset the card"
            )


def _doubted(state: State, seen: Seen) -> State:
    is_relapse = seen.at_s - state.well_s < RELAPSE_S
    fresh = replace(state, is_relapse=is_relapse)
    if not is_relapse:
        fresh = replace(fresh, first_s=seen.at_s, reboots=0)
    return _on(fresh, Rung.DOUBTED, seen)


def _judged(state: State, seen: Seen, limits: Limits) -> tuple[State, Act | None]:
    """Back to well when a process serves it again; onwards when nobody can reach it."""
    if seen.is_served and not seen.is_lost:
        return _well(state, seen), None
    if seen.is_loading or not _is_silent(state, seen, limits):
        return state, None
    if state.reboots >= limits.reboots:
        return _on(state, Rung.GIVEN_UP, seen), None
    if seen.at_s < state.first_s + SPACING_S[min(state.reboots, len(SPACING_S) - 1)]:
        return state, None
    return _on(replace(state, reboots=state.reboots + 1), Rung.REBOOTING, seen), Act.REBOOT


def _is_silent(state: State, seen: Seen, limits: Limits) -> bool:
    blind_since = state.blind_s
    return state.is_relapse or (blind_since is not None and seen.at_s - blind_since >= limits.confirm_s)


def _reopened(state: State, seen: Seen, limits: Limits) -> State:
    if seen.is_served and not seen.is_lost:
        return _well(state, seen)
    if state.rung is Rung.REOPENING and seen.at_s - state.since_s >= REOPEN_S:
        return _on(replace(state, is_relapse=True), Rung.DOUBTED, seen)
    return state


def _well(state: State, seen: Seen) -> State:
    return replace(_on(state, Rung.WELL, seen), well_s=seen.at_s, is_relapse=False)


def _on(state: State, rung: Rung, seen: Seen) -> State:
    return replace(state, rung=rung, since_s=seen.at_s)
