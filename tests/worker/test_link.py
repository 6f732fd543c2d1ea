from __future__ import annotations

import os

import pytest

from worker.link import Link, Stage


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_sees_the_drain_and_the_parent_the_childs_words() -> None:
    link = Link()
    pid = os.fork()
    if pid == 0:
        while not link.is_draining:
            pass
        link.ready("virtual-0")
        os._exit(0)
    link.drain()
    os.waitpid(pid, 0)
    assert link.stage is Stage.READY
    assert link.text == "virtual-0"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param("two\nlines\tand °C", "two lines and °C", id="one line"),
        pytest.param("x" * 9000, "x" * 4088, id="cut to the page"),
        pytest.param("", "", id="empty"),
    ],
)
def test_a_reason_becomes_one_line_that_fits(reason: str, told: str) -> None:
    link = Link()
    link.fail(reason)
    assert link.stage is Stage.FAILED
    assert link.text == told


def test_a_new_child_starts_over_and_a_drain_stays() -> None:
    link = Link()
    link.ready("virtual-0")
    link.drain()
    link.restart()
    assert link.stage is Stage.STARTING
    assert link.is_draining
