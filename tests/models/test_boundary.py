"""Everything a card can raise has a line in the table."""

from __future__ import annotations

import pytest

import hardware.errors
from hardware.errors import CardLost, CardTimeout, HardwareError, OutOfCardMemory
from models.boundary import TRANSLATIONS, card_errors, translate
from tasks.errors import CardUnavailable, EngineError, JobError, LoadFailed


def subclasses(kind: type[HardwareError]) -> set[type[HardwareError]]:
    return {kind for child in kind.__subclasses__() for kind in (child, *subclasses(child))}


def test_every_hardware_error_has_a_line_of_its_own() -> None:
    ours = {kind for kind in subclasses(HardwareError) if kind.__module__ == hardware.errors.__name__}
    assert ours
    assert ours <= set(TRANSLATIONS)


def test_the_table_names_job_errors_and_says_a_sentence_for_each() -> None:
    for kind, ours in TRANSLATIONS.items():
        assert issubclass(ours, EngineError)
        translated = translate(kind("details"))
        assert type(translated) is ours
        assert translated.message.endswith(": details")


def test_a_more_special_error_is_translated_like_its_nearest_kin() -> None:
    class SlotTaken(CardTimeout):
        pass

    assert type(translate(SlotTaken("x"))) is CardUnavailable


def test_the_boundary_keeps_the_cause_and_lets_other_errors_through() -> None:
    with pytest.raises(LoadFailed) as caught, card_errors():
        raise OutOfCardMemory("no room")
    assert isinstance(caught.value.__cause__, OutOfCardMemory)
    with pytest.raises(ValueError, match="mine"), card_errors():
        raise ValueError("mine")


def test_a_lost_card_may_be_tried_again_by_the_client() -> None:
    error: JobError = translate(CardLost("gone"))
    assert error.retryable
