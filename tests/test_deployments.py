"""Compose and systemd run the same commands as the supervisor, and treat the owner of the card with care."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.private_redis import NOBODY, RIGHTS
from cli.processes import module_commands
from config.settings import CHECKOUT, Settings, read_settings
from hardware.doctor.pcie import NODES
from hardware.smi.tool import LIBRARIES, PLACES
from tasks import keys
from tasks.connection import connect
from tests.conftest import RedisServer

ROOMS = ("api", "cli", "config", "hardware", "models", "tasks", "worker")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker/compose.yaml").read_text())
    return loaded


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    return module_commands(Settings())


def units() -> list[Path]:
    return sorted((CHECKOUT / "systemd").glob("*.service"))


def unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of units are case-sensitive
    parser.read(path)
    return parser["Service"]


def test_compose_runs_what_the_supervisor_runs(
    compose: dict[str, Any], commands: dict[str, tuple[str, ...]]
) -> None:
    services = {name: service["command"] for name, service in compose["services"].items() if name != "redis"}
    assert set(services) == set(commands)
    for name, arguments in commands.items():
        # In a container of its own the dashboard cannot be reached on loopback; its port is published there.
        inside = [a.replace("--address=127.0.0.1", "--address=0.0.0.0") for a in arguments]
        assert services[name] == ["python", "-m", *inside], name


def test_compose_publishes_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:5555:5555", "127.0.0.1:8850:8850"]


def test_compose_gives_the_owner_of_the_card_time_to_leave(compose: dict[str, Any]) -> None:
    assert compose["services"]["npu"]["stop_grace_period"] == "10m"


def test_compose_hands_a_real_card_to_the_two_workers_alone(compose: dict[str, Any]) -> None:
    card = yaml.safe_load((CHECKOUT / "docker/compose.card.yaml").read_text())["services"]
    assert set(card) == {"npu", "monitor"} <= set(compose["services"])
    for service in card.values():
        assert service["devices"] == list(NODES)
        assert f"{LIBRARIES}:{LIBRARIES}:ro" in service["volumes"]
        assert "/usr/bin/axcl:/usr/bin/axcl:ro" in service["volumes"]
    assert card["npu"]["oom_score_adj"] == -1000
    assert PLACES[0] == "/usr/bin/axcl"


def test_compose_shares_one_data_volume_and_checks_every_service(compose: dict[str, Any]) -> None:
    dockerfile = (CHECKOUT / "docker/Dockerfile").read_text()
    for name, service in compose["services"].items():
        assert service["volumes"] == (["redis:/data"] if name == "redis" else ["data:/data"])
        assert "healthcheck" in service or (name == "api" and "HEALTHCHECK" in dockerfile), name


def test_redis_has_the_same_rights_everywhere(compose: dict[str, Any]) -> None:
    for text in (compose["services"]["redis"]["command"][-1], (CHECKOUT / "systemd/README.md").read_text()):
        assert RIGHTS in text
        assert NOBODY in text


@pytest.mark.parametrize(
    ("service", "key"), [("monitor", keys.MONITOR), ("npu", keys.heartbeat("card-0"))], ids=["monitor", "npu"]
)
def test_health_checks_of_the_workers_tell_life_from_death(
    compose: dict[str, Any], redis_server: RedisServer, service: str, key: str
) -> None:
    check = compose["services"][service]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]

    def healthy() -> bool:
        environment = {"HEARTH_REDIS_URL": redis_server.url, "PYTHONPATH": str(CHECKOUT)}
        return subprocess.run([sys.executable, "-c", check[3]], env=environment, check=False).returncode == 0

    with connect(read_settings(redis_url=redis_server.url)) as client:
        client.flushall()  # another test's workers may have told of themselves
        assert not healthy()
        client.sadd(keys.CARDS, "card-0")
        client.set(key, b"x")
    assert healthy()


def test_the_image_has_every_room_and_no_root() -> None:
    lines = (CHECKOUT / "docker/Dockerfile").read_text().splitlines()
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    for room in ROOMS:
        assert f"COPY {room} {room}" in lines
        assert f"!{room}" in ignored
    assert "USER hearth" in lines
    assert any("PYTHONPATH=/app" in line for line in lines)
    assert any("--require-hashes" in line for line in lines)


def test_units_run_what_the_supervisor_runs(commands: dict[str, tuple[str, ...]]) -> None:
    found = {path.stem.removeprefix("hearth-"): shlex.split(unit(path)["ExecStart"]) for path in units()}
    assert set(found) == set(commands)
    for name, arguments in commands.items():
        assert found[name] == ["/opt/hearth/.venv/bin/python", "-m", *arguments], name


def test_the_unit_of_the_card_is_never_killed() -> None:
    npu = unit(CHECKOUT / "systemd/hearth-npu.service")
    assert npu["KillMode"] == "mixed"
    assert npu["SendSIGKILL"] == "no"
    assert npu["TimeoutStopSec"] == "infinity"
    assert npu["OOMScoreAdjust"] == "-1000"


def test_units_find_the_rooms_and_keep_secrets_out_of_the_command_line() -> None:
    for path in units():
        text = path.read_text()
        assert "Environment=PYTHONPATH=/opt/hearth" in text, path.name
        assert "EnvironmentFile=/etc/hearth/hearth.env" in text, path.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_understands_every_line() -> None:
    paths = [str(path) for path in [*units(), CHECKOUT / "systemd/hearth.target"]]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    # That /opt/hearth is not here is no fault of the units.
    faults = [line for line in done.stderr.splitlines() if "/opt/hearth" not in line and "hearth" in line]
    assert faults == []
