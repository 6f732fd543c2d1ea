"""``hearth up`` as a whole: real supervisor, real Redis, stand-ins for the rest."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from tests.cli.house import House, run_cli, until

Start = Callable[..., House]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    houses: list[House] = []

    def begin(data_dir: Path = tmp_path / "data", **manners: str) -> House:
        houses.append(House(data_dir, **manners))
        return houses[-1]

    yield begin
    for house in houses:
        house.close()


def test_it_serves_and_stops_everything_in_order(start: Start) -> None:
    house = start()
    serving = house.serving()
    assert serving["url"].startswith("http://127.0.0.1:")
    assert [model["id"] for model in serving["models"]] == ["stand-in"]
    assert serving["faults"] == []
    house.complete()
    family = house.everybody()
    house.signal(signal.SIGTERM)
    status, said = house.ended()
    assert status == 0
    assert "nothing is left running" in said
    ends = [line.split()[0] for line in house.told() if line.endswith("term")]
    assert ends[:2] == ["api", "npu"]
    assert sorted(ends[2:]) == ["flower", "monitor"]
    assert not any(member.is_running() for member in family)
    log = (house.data_dir / "logs/redis.log").read_text()
    assert "ready to exit" in log  # it was asked, not killed, and saved


def test_a_killed_supervisor_leaves_no_orphan(start: Start) -> None:
    house = start()
    house.serving()
    house.complete()
    family = house.everybody()
    assert len(family) == 5
    house.signal(signal.SIGKILL)
    until(lambda: not any(member.is_running() for member in family), patience_s=5)
    assert "npu term" in house.told()  # the card's owner was asked, not killed


def test_the_house_of_a_killed_supervisor_can_be_entered_at_once(start: Start) -> None:
    first = start()
    first.serving()
    first.signal(signal.SIGKILL)
    assert start(first.data_dir).serving()["faults"] == []


def test_a_second_one_in_the_same_directory_is_refused_by_name(start: Start) -> None:
    first = start()
    first.serving()
    status, said = start(first.data_dir).ended()
    assert status == 1
    assert f"already runs on {first.data_dir} (pid {first.process.pid})" in said
    assert len(said.splitlines()) == 1


def test_what_dies_is_started_again(start: Start) -> None:
    house = start()
    house.serving()
    before = house.pid_of("monitor")
    os.kill(before, signal.SIGKILL)
    until(lambda: house.pid_of("monitor") != before)
    redis = house.redis()
    redis.kill()
    until(lambda: not redis.is_running())
    until(lambda: any("redis" in child.name() for child in house.everybody()))
    house.signal(signal.SIGINT)
    status, said = house.ended()
    assert status == 0
    assert "monitor was ended by SIGKILL (monitor speaks)" in said
    assert "redis was ended by SIGKILL" in said


def test_it_goes_on_when_nobody_listens_any_more(start: Start) -> None:
    house = start()
    house.serving()
    assert house.process.stderr is not None
    house.process.stderr.close()  # as `hearth up |& tee log` whose tee was ended
    before = house.pid_of("monitor")
    os.kill(before, signal.SIGKILL)
    until(lambda: house.pid_of("monitor") != before)
    family = house.everybody()
    house.signal(signal.SIGINT)
    assert house.process.wait(20) == 0
    assert not any(member.is_running() for member in family)


def test_what_cannot_start_is_given_up_with_its_last_words(start: Start) -> None:
    house = start(STANDIN_API="dies")
    status, said = house.ended()
    assert status == 1
    assert "api ended with status 1 (it cannot go on like this)" in said.splitlines()[-1]
    assert f"log: {house.data_dir}/logs/api.log" in said.splitlines()[-1]
    assert "npu term" in house.told()


def test_a_signal_while_starting_stops_everything(start: Start) -> None:
    house = start(STANDIN_API="dies")
    house.pid_of("api")
    house.signal(signal.SIGINT)
    assert house.ended()[0] == 0


def test_a_late_owner_of_a_virtual_card_is_killed(start: Start) -> None:
    house = start(STANDIN_NPU="deaf")
    house.serving()
    house.complete()
    house.signal(signal.SIGTERM)
    status, said = house.ended()
    assert status == 0
    assert "npu did not stop within 1 s and is killed" in said


def test_the_owner_of_a_real_card_is_never_killed(start: Start) -> None:
    house = start(STANDIN_NPU="deaf", STANDIN_CARD="real")
    house.serving()
    npu = psutil.Process(house.pid_of("npu"))
    house.signal(signal.SIGINT)
    until(lambda: "npu term" in house.told())
    house.signal(signal.SIGINT)
    with pytest.raises(psutil.TimeoutExpired):
        npu.wait(timeout=2)  # twice its patience
    npu.kill()  # the call into the card returned, so to speak
    status, said = house.ended()
    assert status == 0
    assert "npu may be using a real card and is waited for" in said
    assert "npu did not stop within 1 s: it is waited for" in said


def test_nobody_else_can_read_what_is_kept(start: Start) -> None:
    house = start()
    house.serving()
    modes = {
        path.relative_to(house.data_dir).as_posix(): stat.S_IMODE(path.lstat().st_mode)
        for path in house.data_dir.rglob("*")
    }
    assert stat.S_IMODE(house.data_dir.stat().st_mode) == 0o700
    assert modes["redis"] == modes["logs"] == 0o700
    for secret in (
        "flower-password",
        "redis/password",
        "redis/users.acl",
        "redis/redis.conf",
        "logs/api.log",
    ):
        assert modes[secret] == 0o600, secret
    assert modes["redis/redis.sock"] == 0o700


def test_redis_is_private(start: Start) -> None:
    house = start()
    house.serving()
    assert house.redis().net_connections(kind="inet") == []
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(house.data_dir / "redis/redis.sock"))
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_scripts_and_transactions_wrote_outlives_redis(start: Start, how: str) -> None:
    first = start()
    first.serving()
    with redis_of(first) as client:
        client.eval("redis.call('set', 'by-script-1', 1) redis.call('set', 'by-script-2', 1)", 0)
        with client.pipeline(transaction=True) as pipe:
            pipe.set("by-transaction-1", 1).set("by-transaction-2", 1).execute()
        # While an earlier fsync runs, on a busy disk, Redis writes nothing for up to two seconds.
        until(lambda: client.info("persistence")["aof_buffer_length"] == 0)
    if how == "stopped":
        first.signal(signal.SIGTERM)
        first.ended()
        first = start(first.data_dir)
        first.serving()
    else:
        first.redis().kill()
        until(lambda: answers(first))
    with redis_of(first) as client:
        kept = client.exists("by-script-1", "by-script-2", "by-transaction-1", "by-transaction-2")
    assert kept == 4


def redis_of(house: House) -> redis.Redis:
    return redis.Redis.from_url(psutil.Process(house.pid_of("api")).environ()["HEARTH_REDIS_URL"])


def answers(house: House) -> bool:
    try:
        with redis_of(house) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_passwords_travel_by_environment_only_and_one_is_told_once(start: Start) -> None:
    house = start()
    serving = house.serving()
    house.complete()
    passwords = [
        (house.data_dir / name).read_text().strip() for name in ("flower-password", "redis/password")
    ]
    assert all(len(password) == 32 for password in passwords)
    commands = "\n".join(" ".join(child.cmdline()) for child in house.everybody())
    assert not any(password in commands for password in passwords)
    environment = psutil.Process(house.pid_of("flower")).environ()
    assert environment["FLOWER_BASIC_AUTH"] == f"hearth:{passwords[0]}" == serving["dashboard_secret"]
    assert passwords[1] in environment["HEARTH_REDIS_URL"]
    assert "FLOWER_UNAUTHENTICATED_API" not in environment
    house.signal(signal.SIGTERM)
    house.ended()
    assert start(house.data_dir).serving()["dashboard_secret"] is None


def test_a_path_too_long_or_too_odd_for_a_socket_is_no_obstacle(start: Start, tmp_path: Path) -> None:
    house = start(tmp_path / ("a long directory, " * 6))
    house.serving()
    assert not (house.data_dir / "redis/redis.sock").exists()
    address = psutil.Process(house.pid_of("api")).environ()["HEARTH_REDIS_URL"]
    place = Path(address.partition("@")[2].partition("?")[0])
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    house.signal(signal.SIGTERM)
    assert house.ended()[0] == 0
    assert not place.parent.exists()


def one_line(*arguments: str, **environment: str) -> tuple[int, str]:
    done = run_cli("up", *arguments, environment={"HEARTH_FLOWER": "false", **environment})
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hearth: ")
    return done.returncode, line


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = one_line("--port", str(port), "--data-dir", str(tmp_path))
    assert status == 1
    assert f"port {port} is in use" in line
    assert "--port" in line


def test_a_further_port_in_use_says_who_may_have_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = one_line("--port", "0", "--ollama-port", str(port), "--data-dir", str(tmp_path))
    assert status == 1
    assert f"port {port} is in use; Ollama itself may be there" in line
    assert "--ollama-port" in line
    status, line = one_line("--port", "7860", "--a1111-port", "7860", "--data-dir", str(tmp_path))
    assert (status, "a1111_port and port are both 7860" in line) == (2, True)


def test_an_unreachable_redis_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"unix://me:verysecret@{tmp_path}/none.sock?db=0"
    status, line = one_line("--redis-url", url, "--port", "0", "--data-dir", str(tmp_path))
    assert status == 1
    assert f"{tmp_path}/none.sock" in line
    assert "verysecret" not in line


def test_an_unreadable_models_directory_is_one_line(tmp_path: Path) -> None:
    status, line = one_line("--models-dir", str(tmp_path / "none"), "--data-dir", str(tmp_path))
    assert status == 1
    assert str(tmp_path / "none") in line


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, line = one_line("--data-dir", str(tmp_path / "file"))
    assert status == 1
    assert "data directory" in line


def test_bad_settings_are_one_line(tmp_path: Path) -> None:
    assert one_line("--port", "70000")[0] == 2
    status, line = one_line("--data-dir", str(tmp_path), HEARTH_THERMAL__HOLD_C="60")
    assert status == 2
    assert "hold_c" in line
    assert "HEARTH_PROT" in one_line(HEARTH_PROT="1")[1]
    assert "HEARTH_API_KEY" in one_line("--host", "0.0.0.0")[1]  # noqa: S104
