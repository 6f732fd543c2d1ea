"""The program: what it prints, its exit status, the probes, the archive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import CHECKOUT, read_settings
from hardware.choose import open_card
from hardware.doctor.finding import Finding, Status, well
from hardware.doctor.machine import Ran
from hardware.virtual.abi.options import Quirk
from hardware.virtual.smi import Tool
from tests import axclsim
from tests.golden.embedding import write_package
from tests.hardware.doctor.machines import Bench
from worker.doctor.__main__ import main
from worker.doctor.bundle import known_secrets, scrub, write_bundle
from worker.doctor.examine import Group
from worker.doctor.probes import Row
from worker.doctor.report import Page

KEY = "correct-horse-battery"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's settings: a data directory of its own, ports that are free."""
    for name in [name for name in os.environ if name.startswith("HEARTH_")]:
        monkeypatch.delenv(name)
    told = {"DATA_DIR": str(tmp_path / "data"), "PORT": "0", "FLOWER_PORT": "0", "API_KEY": KEY}
    for name, value in told.items():
        monkeypatch.setenv(f"HEARTH_{name}", value)
    return tmp_path


def test_findings_are_printed_and_a_warning_is_no_failure(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], Bench(here, architecture="x86_64").machine()) == 0
    told = capsys.readouterr().out
    assert "\n  WARN  card " in told
    assert "\n  pass  python" in told
    assert "\x1b" not in told
    assert told.endswith("It will serve: 1 to know of.\n")


def test_a_failure_is_an_exit_status_and_json_is_whole(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(here, architecture="armv7l")
    assert main(["--json"], bench.machine()) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "fail"
    (failed,) = [finding for finding in told["findings"] if finding["status"] == "fail"]
    assert failed.keys() == {"group", "subject", "status", "told", "fix"}
    assert (failed["group"], failed["subject"]) == ("machine", "processor")


def test_a_setting_that_is_wrong_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_PORT", "99999")
    assert main([]) == 2


def test_it_runs_as_a_program_without_a_card_in_sight(here: Path) -> None:
    command = [sys.executable, "-P", "-m", "worker.doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    ran = subprocess.run(command, cwd=here, env=environment, capture_output=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    assert {each["group"] for each in json.loads(ran.stdout)["findings"]} >= {
        "machine",
        "card",
        "house",
        "models",
    }


def test_every_probe_of_a_card_is_a_row_of_one_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_package(here / "data" / "models" / "tiny")
    assert main(["--card-probe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: line for line in lines}
    for probe in (
        "fresh memory is zero",
        "hearth-chat: rows in place",
        "hearth-chat: memory came back",
        "tiny: memory came back",
    ):
        assert " yes" in rows[probe]
    assert "B up" in rows["hearth-chat: a token"]
    assert "f32[1, 24, 32]" in rows["tiny: tiny-embed_u16_npu3"]
    assert "NO" not in "".join(lines)


def test_the_probes_of_a_card_behind_the_vendors_library_see_it_from_outside(
    here: Path, axcl_library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = axclsim.strict(here, quirks=frozenset({Quirk.CMM_NOT_RETURNED}))
    monkeypatch.setattr("hardware.health.smi_runner", lambda _: lambda: Tool(told).run([]))
    monkeypatch.setattr("worker.doctor.probes.RETURNED_S", 0.0)
    monkeypatch.setattr("worker.doctor.probes.open_card", lambda _: axclsim.open_card(axcl_library, here))
    with axclsim.simulated(told):
        assert main(["--card-probe", "--json"]) == 0
    rows = {row["probe"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["card"]["result"] == "AX650N (simulated)"
    assert rows["health"]["result"].endswith("°C")
    assert rows["fresh memory is zero"]["result"] == "yes"
    assert rows["hearth-chat: prompts by chunks"]["result"] == "yes"
    assert rows["hearth-chat: memory came back"]["result"] == "NO"


def test_a_probe_that_is_told_to_stop_stops_between_two_probes(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(*_: object) -> Iterator[Row]:
        yield Row("one", "yes")
        os.kill(os.getpid(), signal.SIGINT)
        yield Row("two", "yes")
        yield Row("three", "yes")

    monkeypatch.setattr("worker.doctor.probes.probes", rows)
    before = signal.getsignal(signal.SIGINT)
    assert main(["--card-probe", "--json"]) == 1
    assert [row["probe"] for row in json.loads(capsys.readouterr().out)] == ["one", "two", "stopped"]
    assert signal.getsignal(signal.SIGINT) is before


def test_only_the_owner_of_the_data_directory_may_probe(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the wrong owner would keep the service from the card."""
    (here / "data").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: (here / "data").stat().st_uid + 1)
    assert main(["--card-probe"]) == 2
    assert f"sudo -u {(here / 'data').owner()} env HEARTH_DATA_DIR={here / 'data'}" in capsys.readouterr().err
    assert list((here / "data").iterdir()) == []


def test_an_examination_leaves_nothing_behind(here: Path) -> None:
    main([], Bench(here).raspberry_pi().machine())
    assert not (here / "data").exists()


def test_a_card_that_is_taken_is_not_probed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_card(read_settings()):
        assert main(["--card-probe", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert f"belongs to process {os.getpid()}" in row["detail"]


def test_the_archive_holds_findings_logs_and_the_cards_own_and_no_key(here: Path) -> None:
    bench = Bench(here).raspberry_pi()
    bench.outputs["journalctl"] = Ran(0, "Authorization: Bearer s3cr3t-of-a-client\nwell\n")
    settings = read_settings()
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "api.log").write_text(f"started with {KEY}\n")
    (settings.data_dir / "flower-password").write_text("of-the-dashboard\n")
    (logs / "flower.log").write_text("x" * (2 << 20) + "auth hearth:of-the-dashboard\n")
    path = write_bundle(bench.machine(), settings, here / "out")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2]: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert {
        "findings.json",
        "findings.txt",
        "settings.json",
        "logs/api.log",
        "journal.txt",
        "kernel.txt",
    } <= set(held)
    assert any(name.startswith("card/dev1_log_") for name in held)
    assert json.loads(held["findings.json"])["status"] == "pass"
    assert len(held["logs/flower.log"]) < (2 << 20)
    everything = b"".join(held.values())
    for secret in (KEY, "s3cr3t-of-a-client", "of-the-dashboard"):
        assert secret.encode() not in everything
    assert b"well" in held["journal.txt"]


@given(st.from_regex(r"[A-Za-z0-9_.~+/=-]{12,64}", fullmatch=True))
def test_what_looks_like_a_secret_is_taken_out(secret: str) -> None:
    for text in (
        f"Authorization: Bearer {secret}\n",
        f'"api_key": "{secret}"',
        f"HEARTH_API_KEY={secret}\n",
        f"redis://hearth:{secret}@host/0",
    ):
        assert secret not in scrub(text, [])


def test_the_secrets_of_a_house_are_known(here: Path) -> None:
    settings = read_settings(redis_url="redis://hearth:in-the-url@localhost/0")
    assert known_secrets(settings) == ["redis://hearth:in-the-url@localhost/0", KEY]


def test_a_page_wraps_what_is_told_and_never_a_command() -> None:
    command = "sudo " + "x" * 150
    finding = Finding("driver", Status.FAIL, "word " * 40, command)
    lines = Page(70, colour=False).group(Group("card", (finding, well("link", "up")))).splitlines()
    assert " " * 26 + "→ " + command in lines
    assert all(len(line) <= 70 for line in lines if command not in line)
    assert "\x1b[31;1mFAIL\x1b[0m" in Page(70, colour=True).group(Group("card", (finding,)))
