"""``hearth logs``: the last lines, what comes, and what a rotation moves away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import logs, tail
from cli.errors import CliError
from cli.logs import ChildLog
from cli.tail import Follower

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    for name, text in (("api", "a1\na2\n"), ("npu", "n1\nn2\nunfinished")):
        (tmp_path / "logs" / f"{name}.log").write_text(text)
    return tmp_path


def test_the_last_lines_of_each_with_their_names(house: Path, capsys: Captured) -> None:
    tail.logs(None, house, 1, follow=False, as_json=False)
    assert capsys.readouterr().out == "api     | a2\nnpu     | n2\n"


def test_one_process_by_its_name_or_the_one_people_use(house: Path, capsys: Captured) -> None:
    for name in ("npu", "worker"):
        tail.logs(name, house, 9, follow=False, as_json=False)
    assert capsys.readouterr().out == "n1\nn2\n" * 2
    tail.logs("api", house, 1, follow=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"process": "api", "line": "a2"}


def test_what_is_not_there_is_told(house: Path, tmp_path: Path) -> None:
    with pytest.raises(CliError, match="there are: redis, api, npu, monitor, flower, worker"):
        tail.logs("apo", house, 1, follow=False, as_json=False)
    for process, place in ((None, tmp_path / "none"), ("flower", house)):
        with pytest.raises(CliError, match="there are no logs in"):
            tail.logs(process, place, 1, follow=False, as_json=False)


def test_lines_of_rotated_files_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 10)
    log = ChildLog(tmp_path / "x.log", prefix="x", verbose=False)
    for number in range(4):
        log.write(b"line %d..\n" % number)
    log.close()
    for count, kept in ((3, ["line 1..", "line 2..", "line 3.."]), (0, [])):
        with Follower(tmp_path / "x.log") as follower:
            assert follower.last(count) == kept


def test_rotation_loses_no_line_and_repeats_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line, a look after every fourth: files are moved in the middle of it."""
    monkeypatch.setattr(logs, "MAX_BYTES", 50)
    follower = Follower(tmp_path / "x.log")
    assert list(follower.news()) == [], "nothing was said yet"
    log, seen = ChildLog(tmp_path / "x.log", prefix="x", verbose=False), list[str]()
    for number in range(60):
        log.write(b"line %d\n" % number)
        if number % 4 == 0:
            seen += follower.news()
    log.write(b"and ")
    seen += follower.news()
    log.write(b"the end\n")
    seen += follower.news()
    log.close()
    follower.close()
    assert seen == [*(f"line {number}" for number in range(60)), "and the end"]


def test_following_goes_on_until_it_is_stopped(
    house: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(3))

    def between_looks(_: float) -> None:
        look = next(looks)
        if look == 2:
            raise KeyboardInterrupt
        with (house / "logs" / "npu.log").open("a") as log:
            log.write(f" {look}\n")

    monkeypatch.setattr("cli.tail.time.sleep", between_looks)
    with pytest.raises(KeyboardInterrupt):
        tail.logs(None, house, 0, follow=True, as_json=False)
    assert capsys.readouterr().out == "npu     | unfinished 0\nnpu     |  1\n"
