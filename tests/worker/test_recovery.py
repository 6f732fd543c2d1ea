from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.groups import RecoverySettings
from worker.recovery import SPACING_S, Act, Helper, Rung, Seen, State, message, step

LIMITS = RecoverySettings()
WELL = Seen(0.0, is_reported=False, is_stalled=False, is_read=True, is_loading=False, is_served=True)
DEAD = replace(WELL, is_reported=True, is_read=False, is_served=False)
HUNG = replace(WELL, is_stalled=True, is_read=False)


@dataclass
class Story:
    """Beats of five seconds; a reboot takes one of them."""

    state: State = field(default_factory=State)
    at_s: float = 1000.0
    acts: list[tuple[float, Act]] = field(default_factory=list)

    def beats(self, seen: Seen, seconds: float) -> Rung:
        until_s = self.at_s + seconds
        while self.at_s < until_s:
            helper = Helper.DONE if self.state.rung is Rung.REBOOTING else None
            self.state, act = step(self.state, replace(seen, at_s=self.at_s, helper=helper), LIMITS)
            if act is not None:
                self.acts.append((self.at_s - 1000.0, act))
            self.at_s += 5.0
        return self.state.rung


def test_a_card_that_is_well_is_left_alone_however_its_health_reads() -> None:
    story = Story()
    assert story.beats(WELL, 60) is Rung.WELL
    assert story.beats(replace(WELL, is_read=False), 600) is Rung.WELL
    assert story.acts == []


def test_a_reboot_that_fails_is_tried_again_when_its_time_has_come() -> None:
    rebooting = State(Rung.REBOOTING, since_s=30.0, reboots=1, blind_s=0.0)
    for helper, rung in ((Helper.RUNNING, Rung.REBOOTING), (Helper.FAILED, Rung.SETTLING)):
        state, act = step(rebooting, replace(DEAD, at_s=35.0, helper=helper), LIMITS)
        assert (state.rung, act) == (rung, None)


def test_a_lost_card_that_a_new_process_opens_needs_no_reboot() -> None:
    story = Story()
    assert story.beats(replace(DEAD, is_read=True), 20) is Rung.DOUBTED
    assert story.beats(WELL, 5) is Rung.WELL
    assert story.acts == []


def test_a_lost_card_that_cannot_be_read_is_rebooted_and_comes_back() -> None:
    story = Story()
    assert story.beats(DEAD, 30) is Rung.DOUBTED
    story.beats(DEAD, 10)
    assert story.acts == [(30.0, Act.REBOOT)]
    assert story.beats(DEAD, LIMITS.settle_s - 5) is Rung.SETTLING
    assert story.beats(replace(DEAD, is_read=True), 20) is Rung.REOPENING
    assert story.beats(WELL, 5) is Rung.WELL


def test_one_reading_in_between_begins_the_wait_anew() -> None:
    story = Story()
    story.beats(DEAD, 25)
    story.beats(replace(DEAD, is_read=True), 5)
    story.beats(DEAD, 30)
    assert story.acts == []
    story.beats(DEAD, 5)
    assert [act for _, act in story.acts] == [Act.REBOOT]


def test_nothing_is_rebooted_while_a_model_loads() -> None:
    story = Story()
    story.beats(replace(DEAD, is_loading=True, is_served=True), 600)
    assert story.acts == []


def test_a_stuck_process_is_ended_only_after_the_reboot_has_settled() -> None:
    story = Story()
    story.beats(HUNG, 30 + 5 + 5 + LIMITS.settle_s + 10)
    assert [act for _, act in story.acts] == [Act.REBOOT, Act.KILL]
    (_, rebooted), (killed_s, _) = (story.acts[0], story.acts[1])
    assert rebooted is Act.REBOOT
    assert killed_s >= 30 + LIMITS.settle_s


def test_reboots_are_spaced_and_then_a_person_is_asked() -> None:
    story = Story()
    assert story.beats(DEAD, 3600) is Rung.GIVEN_UP
    times = [at_s for at_s, act in story.acts if act is Act.REBOOT]
    assert len(times) == LIMITS.reboots
    assert all(at_s >= spacing_s for at_s, spacing_s in zip(times, SPACING_S, strict=True))
    assert "power" in message(story.state, LIMITS)
    assert story.beats(WELL, 5) is Rung.WELL, "somebody took it off the power"


def test_a_card_that_is_readable_but_lost_twice_in_a_row_is_rebooted() -> None:
    story = Story()
    readable = replace(DEAD, is_read=True)
    story.beats(readable, 10)
    story.beats(WELL, 30)
    assert story.acts == []
    story.beats(readable, 10)
    assert [act for _, act in story.acts] == [Act.REBOOT]


def test_a_card_lost_again_much_later_begins_anew() -> None:
    story = Story()
    story.beats(DEAD, 120)
    story.beats(WELL, 3600)
    story.beats(DEAD, 40)
    assert story.state.reboots == 1


def test_without_reboots_a_person_is_asked_at_once() -> None:
    state, act = step(State(Rung.DOUBTED, blind_s=0.0), replace(DEAD, at_s=60.0), RecoverySettings(reboots=0))
    assert (state.rung, act) == (Rung.GIVEN_UP, None)


@pytest.mark.parametrize("rung", list(Rung))
def test_every_rung_but_well_has_words(rung: Rung) -> None:
    if rung is not Rung.WELL:
        assert message(State(rung, reboots=1), LIMITS)


seens = st.builds(
    Seen,
    at_s=st.just(0.0),
    is_reported=st.booleans(),
    is_stalled=st.booleans(),
    is_read=st.booleans(),
    is_loading=st.booleans(),
    is_served=st.booleans(),
    helper=st.sampled_from([None, *Helper]),
)


@given(st.lists(seens, max_size=300))
def test_reboots_are_bounded_and_never_on_health_alone(beats: list[Seen]) -> None:
    state, reboots, was_lost = State(), 0, False
    for number, seen in enumerate(beats):
        was_lost = was_lost or seen.is_lost
        state, act = step(state, replace(seen, at_s=number * 5.0), LIMITS)
        if act is Act.REBOOT:
            reboots += 1
            assert was_lost
            assert not seen.is_loading
            assert state.reboots <= LIMITS.reboots
        if state.rung is Rung.WELL:
            was_lost = False
