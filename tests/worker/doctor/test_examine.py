"""Machines with one thing wrong each, and what the doctor says of it."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from config.keyring import FILE, Keyring, Scope
from config.settings import Settings, read_settings
from hardware.doctor.finding import Finding, Status
from hardware.doctor.machine import Machine, Ran
from hardware.doctor.pcie import OVERLAYS
from hardware.health import SMI_LOCK
from hardware.virtual.smi import Manners
from hardware.virtual.state import CardState, Fault
from tests.conftest import RedisServer
from tests.hardware.doctor.machines import BUS, KERNEL, SDK, Bench
from worker.doctor import examine as examination
from worker.doctor.examine import Group, examine, worst
from worker.doctor.house import _access

MIB = 1 << 20
WELL, WARN, FAIL = Status.PASS, Status.WARN, Status.FAIL
SLOT = f"sys/bus/pci/devices/{BUS}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path).raspberry_pi()


@pytest.fixture
def quick(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The machine whose tool answers without a process of its own."""
    really = examination.asking

    def asking(machine: Machine, settings: Settings) -> Callable[[], str]:
        return bench.table if machine.has("/usr/bin/axcl/axcl-smi") else really(machine, settings)

    monkeypatch.setattr(examination, "asking", asking)
    return bench


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    return read_settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models", port=0, flower_port=0)


def look(bench: Bench, settings: Settings) -> list[Group]:
    return list(examine(bench.machine(), settings))


def faults(groups: list[Group]) -> list[Finding]:
    return [each for group in groups for each in group.findings if each.status is not WELL]


def test_a_pi_that_is_well_passes_and_says_what_it_is(bench: Bench, settings: Settings) -> None:
    groups = look(bench, settings)
    assert faults(groups) == []
    assert worst(groups) is WELL
    told = {finding.subject: finding.told for group in groups for finding in group.findings}
    assert told["processor"] == f"aarch64 · Raspberry Pi 5 Model B Rev 1.0 · {KERNEL}"
    assert told["boot loader"] == "of 2025-05-08"
    assert told[f"link {BUS}"] == "5 GT/s × 1, 500 MB/s at most, all a Raspberry Pi gives"
    assert told["versions"] == f"driver {SDK}, tool {SDK}, firmware of card 0 V3.6.5"
    assert told["library"] == f"/usr/lib/axcl/libaxcl_rt.so {SDK}"
    assert told["card memory"] == "7040 of 7040 MiB free"
    assert told["temperature"].endswith("°C")
    assert [group.name for group in groups] == ["machine", "card", "house", "models"]


def upgraded(bench: Bench) -> None:
    """The kernel was upgraded, and the driver not built for it."""
    bench.write("proc/sys/kernel/osrelease", "6.12.47+rpt-rpi-2712\n")
    bench.write("proc/modules", "")
    bench.remove("dev/axcl_host", "dev/msg_userdev", "dev/ax_mmb_dev")
    bench.tool(SDK, driver=False)


def not_loaded(bench: Bench) -> None:
    bench.write("proc/modules", "ax_pcie_host_dev 1 0 - Live 0x0\n")
    bench.remove("dev/axcl_host", "dev/msg_userdev", "dev/ax_mmb_dev")
    bench.tool(SDK, driver=False)


def not_installed(bench: Bench) -> None:
    bench.write("proc/modules", "")
    bench.remove(
        "dev/axcl_host", f"lib/modules/{KERNEL}", "usr/bin/axcl", "usr/lib/axcl", "lib/firmware/axcl"
    )


def overlay_missing(bench: Bench) -> None:
    bench.write("boot/firmware/config.txt", "[all]\ndtparam=pciex1\n")
    bench.remove("dev/axcl_host")
    bench.tool(SDK, devices=0)


@pytest.mark.parametrize(
    ("damage", "subject", "status", "told", "fix"),
    [
        (upgraded, "driver", FAIL, "another kernel than 6.12.47", "sudo dkms autoinstall -k 6.12.47"),
        (
            not_loaded,
            "driver",
            FAIL,
            "ax_pcie_msg, ax_pcie_mmb, axcl_host not loaded",
            "sudo modprobe axcl_host",
        ),
        (not_installed, "driver", FAIL, "not installed", "sudo apt install dkms axclhost"),
        (not_installed, "library", FAIL, "libaxcl_rt.so is missing", "sudo apt install --reinstall axclhost"),
        (not_installed, "axcl-smi", FAIL, "not installed", "sudo apt install --reinstall axclhost"),
        (not_installed, "firmware file", FAIL, "ax650_card.pac is missing", "sudo apt install"),
        (overlay_missing, "overlay", WARN, OVERLAYS[1], f"echo '{OVERLAYS[1]}' | sudo tee -a"),
        (
            lambda bench: (bench.root / "dev/msg_userdev").chmod(0),
            "driver",
            FAIL,
            "/dev/msg_userdev: this user may not",
            "sudo chmod 666 /dev/msg_userdev",
        ),
        (
            lambda bench: bench.write(f"{SLOT}/current_link_speed", "2.5 GT/s PCIe\n"),
            f"link {BUS}",
            WARN,
            "2.5 GT/s × 1, 250 MB/s at most: the card can do 5 GT/s",
            "pciex1_gen=1",
        ),
        (
            lambda bench: bench.write(f"{SLOT}/current_link_speed", "Unknown\n"),
            f"link {BUS}",
            FAIL,
            "the link is down",
            "power off",
        ),
        (
            lambda bench: bench.write("proc/device-tree/model", "FriendlyElec CM3588"),
            f"link {BUS}",
            WARN,
            "the card can use 2 lanes",
            "more lanes",
        ),
        (
            lambda bench: bench.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "ondemand"),
            "clock",
            WARN,
            "governor ondemand, performance",
            "echo performance | sudo tee",
        ),
        (
            lambda bench: bench.outputs.update(vcgencmd=Ran(0, "2023/01/11 17:40:52\n")),
            "boot loader",
            FAIL,
            "of 2023-01-11, older than 2023-12-06",
            "sudo rpi-eeprom-update -a",
        ),
        (
            lambda bench: bench.outputs.update(
                dmesg=Ran(0, "alive\n[heartbeat_recv_thread, 578]: device 1: dead!\n")
            ),
            "kernel log",
            WARN,
            "declared dead",
            "axcl-smi reboot",
        ),
        (
            lambda bench: bench.outputs.update(
                {"libaxcl_rt.so": Ran(1, "OSError: libspdlog.so: cannot open")}
            ),
            "library",
            FAIL,
            "cannot be loaded: OSError: libspdlog.so",
            "ldd /usr/lib/axcl",
        ),
        (
            lambda bench: setattr(bench, "architecture", "armv7l"),
            "processor",
            FAIL,
            "64-bit",
            "64-bit system",
        ),
        (lambda bench: setattr(bench, "python", (3, 14)), "python", FAIL, "3.14", "HEARTH_PYTHON"),
        (
            lambda bench: setattr(bench, "free_bytes", 1 << 30),
            "disk",
            WARN,
            "1.0 GiB free",
            "HEARTH_DATA_DIR",
        ),
        (
            lambda bench: setattr(bench, "free_bytes", 1 << 20),
            "disk",
            FAIL,
            "0.0 GiB free",
            "HEARTH_DATA_DIR",
        ),
        (
            lambda bench: setattr(bench, "free_bytes", None),
            "disk",
            FAIL,
            "cannot be looked at",
            "HEARTH_DATA_DIR",
        ),
        (lambda bench: bench.tool("V3.5.0_1"), "versions", WARN, "V3.6.2 and later", "apt upgrade"),
        (lambda bench: bench.tool(SDK, devices=0), "card", FAIL, "no device is connected", "axcl-smi reboot"),
        (
            lambda bench: CardState.open(bench.sim).order(fault=Fault.HOT, hot_c=93.0),
            "temperature",
            WARN,
            "work is held until 70 °C",
            "air",
        ),
        (
            lambda bench: CardState.open(bench.sim).order(fault=Fault.BLIND),
            "temperature",
            WARN,
            "does not tell",
            "axcl-smi info --temp",
        ),
        (
            lambda bench: bench.write(
                "etc/systemd/system/hearth-npu.service",
                "[Service]\nKillMode=mixed\nTimeoutStopSec=infinity\n",
            ),
            "systemd",
            WARN,
            "lacks SendSIGKILL=no",
            "sudo cp systemd/hearth-npu.service",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(
    quick: Bench,
    settings: Settings,
    damage: Callable[[Bench], None],
    subject: str,
    status: Status,
    told: str,
    fix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Root may use everything; whether others may is what the file's mode says.
    monkeypatch.setattr(Machine, "may_use", lambda self, path: bool(self.path(path).stat().st_mode & 0o666))
    damage(quick)
    groups = look(quick, settings)
    found = [finding for finding in faults(groups) if finding.subject == subject]
    assert len(found) == 1, faults(groups)
    assert found[0].status is status
    assert told in found[0].told
    assert fix in (found[0].fix or "")
    assert worst(groups) is max((each.status for each in faults(groups)), key=list(Status).index)


def test_a_death_that_life_has_followed_is_past(quick: Bench, settings: Settings) -> None:
    quick.outputs["dmesg"] = Ran(0, "device 1: dead!\n### Dev 1 Firmware loading ###\ndevice 1: alive!\n")
    assert faults(look(quick, settings)) == []


def test_a_firmware_of_another_version_fails(
    quick: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = quick.table().replace(f"Driver  {SDK}", "Driver  V3.10.2_20251215140224")
    monkeypatch.setattr(examination, "asking", lambda *_: lambda: mixed)
    (fault,) = faults(look(quick, settings))
    assert (fault.subject, fault.status) == ("versions", FAIL)
    assert "mixed versions are unstable" in fault.told


def test_a_card_that_does_not_answer_gets_the_whole_ladder(
    bench: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "ASK_S", 0.5)
    bench.tool(SDK, manners=Manners(hangs=True))
    groups = look(bench, settings)
    (fault,) = faults(groups)
    assert (fault.subject, fault.status) == ("card", FAIL)
    assert "gave no answer" in fault.told
    ladder = next(group.ladder for group in groups if group.name == "card")
    assert [command.split()[0] for _, command in ladder] == ["axcl-smi", "sudo", "echo", "sudo"]
    assert f"/sys/bus/pci/devices/{BUS}/remove" in ladder[2][1]


def test_the_monitors_turn_is_waited_for(bench: Bench, settings: Settings) -> None:
    settings.data_dir.mkdir()
    lock = os.open(settings.data_dir / SMI_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.4, os.close, [lock]).start()
    began_s = time.monotonic()
    assert "AXCL-SMI" in examination.asking(bench.machine(), settings)()
    assert time.monotonic() - began_s >= 0.4


def test_memory_that_nobody_uses_and_is_not_free_was_left_behind(quick: Bench, settings: Settings) -> None:
    state = CardState.open(quick.sim)
    state.hold(2000 * MIB, 7040 * MIB)
    table = quick.table()
    (card,) = [each for each in look(quick, settings)[1].findings if each.subject == "card memory"]
    assert card.status is WELL
    assert f"pid {os.getpid()}" in card.told
    orphaned = "\n".join(line for line in table.splitlines() if "KiB" not in line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examination, "asking", lambda *_: lambda: orphaned)
        (fault,) = faults(look(quick, settings))
    assert "left behind" in fault.told


def test_a_laptop_without_a_card_may_serve_and_is_told_so(tmp_path: Path, settings: Settings) -> None:
    bench = Bench(tmp_path, architecture="x86_64")
    groups = look(bench, settings)
    (fault,) = faults(groups)
    assert (fault.subject, fault.status) == ("card", WARN)
    assert "software stands in" in fault.told
    assert worst(groups) is WARN
    assert not any("axcl" in line for line in bench.ran)


def test_a_card_that_is_asked_for_and_not_there_fails(tmp_path: Path, settings: Settings) -> None:
    bench = Bench(tmp_path, architecture="x86_64")
    found = faults(look(bench, settings.model_copy(update={"card": "axcl"})))
    assert [(each.subject, each.status) for each in found] == [
        ("card", FAIL),
        ("library", FAIL),
        ("axcl-smi", FAIL),
        ("models", FAIL),  # the demo models are for the card that is made of software
    ]


def test_software_that_is_asked_for_is_well_and_a_card_beside_it_is_mentioned(
    bench: Bench, tmp_path: Path, settings: Settings
) -> None:
    asked = settings.model_copy(update={"card": "virtual"})
    assert faults(look(Bench(tmp_path / "laptop", architecture="x86_64"), asked)) == []
    (fault,) = faults(look(bench, asked))
    assert (fault.subject, fault.status, fault.fix) == ("card", WARN, "unset HEARTH_CARD")


def test_a_pi_without_its_card_is_told_where_to_begin(tmp_path: Path, settings: Settings) -> None:
    bench = Bench(tmp_path)
    bench.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0")
    (fault,) = faults(look(bench, settings))
    assert OVERLAYS[1] in (fault.fix or "")


def test_a_port_that_somebody_else_has_is_told(
    quick: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.doctor.house._ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        changed = settings.model_copy(update={"port": port, "ollama_port": port, "flower_port": port})
        api, further, dashboard = faults(look(quick, changed))
    assert (api.subject, api.status) == ("api port", FAIL)
    assert "HEARTH_PORT=0" in (api.fix or "")
    assert (further.subject, further.status) == ("ollama port", FAIL)
    assert "HEARTH_OLLAMA_PORT" in (further.fix or "")
    assert (dashboard.subject, dashboard.status) == ("dashboard port", FAIL)


def test_ports_that_hearth_itself_has_are_well(quick: Bench, settings: Settings) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "9.9"}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        groups = look(quick, settings.model_copy(update={"port": port, "flower_port": port}))
        server.shutdown()
    assert faults(groups) == []
    assert f"{port}: Hearth 9.9 is serving there" in [each.told for each in groups[2].findings]


def test_redis_is_asked_where_one_is_named(
    quick: Bench, settings: Settings, redis_server: RedisServer
) -> None:
    secret = type(read_settings(redis_url="redis://x").redis_url)
    near = settings.model_copy(update={"redis_url": secret(redis_server.url)})  # type: ignore[misc]
    assert faults(look(quick, near)) == []
    away = settings.model_copy(update={"redis_url": secret("unix:///none.sock")})  # type: ignore[misc]
    (fault,) = faults(look(quick, away))
    assert (fault.subject, fault.status) == ("redis", FAIL)


def test_packages_that_cannot_be_used_and_such_that_do_not_fit_are_told(
    quick: Bench, settings: Settings
) -> None:
    (settings.packages_dir / "empty").mkdir()
    (fault,) = faults(look(quick, settings))
    assert (fault.subject, fault.status) == ("model empty", WARN)
    tight = settings.model_copy(update={"models": settings.models.model_copy(update={"margin_mib": 7039})})
    _, *demos = faults(look(quick, tight))
    assert [fault.subject for fault in demos] == ["model hearth-chat", "model hearth-image"]
    assert all("there are 1" in fault.told for fault in demos)
    bare = settings.model_copy(update={"demo_models": False})
    assert faults(look(quick, bare))[0].status is FAIL


@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        (lambda ring, file: None, WELL, "none: whoever uses this machine"),
        (lambda ring, file: ring.add("laptop", Scope.INFER), WELL, "1 there; whoever asks at 127.0.0.1"),
        (lambda ring, file: (ring.add("guest", Scope.INFER), ring.revoke("guest")), WARN, "hearth keys add"),
        (lambda ring, file: (ring.add("laptop", Scope.INFER), file.chmod(0o666)), FAIL, "chmod 600"),
        (lambda ring, file: file.write_text("{"), FAIL, "damaged"),
    ],
)
def test_who_may_ask_is_looked_at(
    settings: Settings, prepare: Callable[[Keyring, Path], object], status: Status, words: str
) -> None:
    settings.data_dir.mkdir()
    prepare(Keyring(settings.data_dir), settings.data_dir / FILE)
    found = _access(settings)
    assert (found.subject, found.status) == ("keys", status)
    assert words in f"{found.told} {found.fix}"
