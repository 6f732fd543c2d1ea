"""``./hearth``: what it makes and installs, and says when it may not. Python, apt and sudo are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config.settings import CHECKOUT

TOOLS = (
    *("sh", "dirname", "readlink", "sha256sum", "cut", "flock", "mkdir", "mv", "ls", "cat", "rm", "id"),
    *("sleep", "tail", "mktemp", "chmod", "grep", "env", "ln"),
)

PYTHON = """#!/bin/sh
# A Python that is quick: it makes environments of a script like itself, and installs by taking note of it.
case "$*" in
*"sys.exit(not"*) exit "${FAKE_WRONG_VERSION:-0}" ;;
*"import venv, ensurepip"*) exit "${FAKE_NO_VENV:-0}" ;;
*realpath*) readlink -f "$0" ;;
*"%d.%d-venv"*) echo python3.11-venv ;;
"-V") echo "Python 3.11.2" ;;
"-m venv --clear "*)
    for last; do :; done
    rm -rf "$last"
    mkdir -p "$last/bin"
    ln -s "$FAKE_PYTHON" "$last/bin/python"
    ;;
"-m pip install "*)
    for last; do :; done
    echo "pip $last" >>"$FAKE_TOLD"
    sleep "${FAKE_PIP_S:-0}"
    exit "${FAKE_PIP:-0}"
    ;;
"-P -m cli "*|"-P -m cli") echo "ran $* in $PWD with $PYTHONPATH" ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


class Machine:
    """A checkout and a PATH with little on it."""

    def __init__(self, place: Path) -> None:
        self.checkout = place / "a checkout"
        self.bin = place / "bin"
        self.told_file = place / "told"
        (self.checkout / "requirements").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(CHECKOUT / "hearth", self.checkout / "hearth")
        for lock in ("runtime", "dev"):
            (self.checkout / f"requirements/{lock}.txt").write_text(f"{lock} 1\n")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.bin / tool).symlink_to(found)
        self.add("python3", PYTHON)
        self.add("redis-server")
        self.add("gcc")
        self.environment = {
            "PATH": str(self.bin),
            "FAKE_TOLD": str(self.told_file),
            "FAKE_PYTHON": str(self.bin / "python3"),
        }

    def add(self, name: str, text: str = "#!/bin/sh\n") -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def without(self, name: str) -> None:
        (self.bin / name).unlink()

    def command(self, *arguments: str, script: Path | None = None) -> list[str]:
        return [str(self.bin / "sh"), str(script or self.checkout / "hearth"), *arguments]

    def run(
        self, *arguments: str, script: Path | None = None, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, script=script),
            env={**self.environment, **variables},
            cwd=cwd or self.checkout,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def told(self) -> list[str]:
        return self.told_file.read_text().splitlines() if self.told_file.exists() else []

    def installed(self) -> list[str]:
        return [Path(line.removeprefix("pip ")).stem for line in self.told() if line.startswith("pip ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_command_sets_up_and_hands_over(machine: Machine) -> None:
    done = machine.run("up", "--port", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ran -P -m cli up --port 1 in {machine.checkout} with {machine.checkout}\n"
    assert machine.installed() == ["runtime"]
    assert "once" in done.stderr


def test_the_second_one_says_nothing_and_is_quick(machine: Machine) -> None:
    machine.run("jobs")
    began_s = time.monotonic()
    done = machine.run("jobs")
    took_s = time.monotonic() - began_s
    assert done.stderr == ""
    assert machine.installed() == ["runtime"]
    assert took_s < 0.5  # 0.02 s on an idle machine


def test_a_shell_that_completes_a_line_is_not_made_to_wait_for_the_set_up(machine: Machine) -> None:
    done = machine.run("models", _HEARTH_COMPLETE="complete_bash")
    assert (done.returncode, done.stdout, done.stderr, machine.installed()) == (0, "", "", [])
    machine.run("jobs")
    assert "ran -P -m cli" in machine.run("models", _HEARTH_COMPLETE="complete_bash").stdout


def test_what_tests_need_is_added_once_and_serves_the_rest(machine: Machine) -> None:
    for command in ("up", "test", "up", "check", "bench"):
        assert machine.run(command).returncode == 0
    assert machine.installed() == ["runtime", "dev"]


def test_changed_locks_are_installed_into_a_new_environment(machine: Machine) -> None:
    machine.run("up")
    leftover = machine.checkout / ".venv/leftover"
    leftover.touch()
    (machine.checkout / "requirements/runtime.txt").write_text("runtime 2\n")
    machine.run("up")
    assert machine.installed() == ["runtime", "runtime"]
    assert not leftover.exists()


def test_an_interrupted_installation_is_begun_anew(machine: Machine) -> None:
    assert machine.run("up", FAKE_PIP="1").returncode == 1
    done = machine.run("up")
    assert done.returncode == 0, done.stderr
    assert machine.installed() == ["runtime", "runtime"]


def test_two_at_once_set_up_once(machine: Machine) -> None:
    environment = {**machine.environment, "FAKE_PIP_S": "0.5"}
    both = [
        subprocess.Popen(machine.command("up"), env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [one.communicate(timeout=20)[0].startswith("ran") for one in both] == [True, True]
    assert machine.installed() == ["runtime"]


def test_somebody_elses_environment_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    precious = tmp_path / "mine/precious"
    precious.touch()
    done = machine.run("up", HEARTH_VENV=str(tmp_path / "mine"))
    assert done.returncode == 1
    assert "was not made by ./hearth" in done.stderr
    assert precious.exists()


def test_it_works_from_anywhere_and_through_links(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/bin").mkdir(parents=True)
    link = tmp_path / "elsewhere/bin/hearth"
    link.symlink_to(Path("../../a checkout/hearth"))
    second = tmp_path / "h"
    second.symlink_to(link)
    done = machine.run("jobs", script=second, cwd=tmp_path / "elsewhere")
    assert done.stdout == f"ran -P -m cli jobs in {tmp_path / 'elsewhere'} with {machine.checkout}\n"


def test_without_a_fitting_python_it_says_the_line(machine: Machine) -> None:
    done = machine.run("up", FAKE_WRONG_VERSION="1")
    assert done.returncode == 1
    assert "sudo apt install python3 python3-venv" in done.stderr
    named = machine.run("up", FAKE_WRONG_VERSION="1", HEARTH_PYTHON="python3")
    assert "HEARTH_PYTHON=python3 is not a Python 3.11, 3.12 or 3.13" in named.stderr


def test_without_venv_it_says_the_line(machine: Machine) -> None:
    done = machine.run("up", FAKE_NO_VENV="1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("Run:  sudo apt install python3-venv")


def test_without_redis_and_without_rights_it_says_the_line(machine: Machine) -> None:
    machine.without("redis-server")
    machine.add("apt-get", "#!/bin/sh\nexit 9\n")
    machine.add("id", "#!/bin/sh\necho 1000\n")
    machine.add("sudo", "#!/bin/sh\nexit 1\n")
    for command in ("up", "test", "bench"):
        done = machine.run(command)
        assert done.returncode == 1
        assert "Run:  sudo apt install redis-server" in done.stderr.splitlines()[-1]
    assert machine.run("jobs").returncode == 0


def test_only_the_tests_need_a_compiler(machine: Machine) -> None:
    machine.without("gcc")
    machine.add("apt-get", "#!/bin/sh\nexit 9\n")
    machine.add("id", "#!/bin/sh\necho 1000\n")
    machine.add("sudo", "#!/bin/sh\nexit 1\n")
    done = machine.run("test")
    assert done.returncode == 1
    assert "Run:  sudo apt install --no-install-recommends gcc libc6-dev" in done.stderr.splitlines()[-1]
    assert machine.run("up").returncode == 0


def test_with_rights_the_compiler_is_installed_with_what_it_needs(machine: Machine) -> None:
    machine.add("gcc", "#!/bin/sh\nexit 1\n")  # as without the headers of C's library
    machine.add("apt-get")
    machine.add("id", "#!/bin/sh\necho 1000\n")
    machine.add(
        "sudo",
        '#!/bin/sh\n[ "$2" = true ] && exit\ncat >/dev/null\necho "root: $*" >>"$FAKE_TOLD"\n'
        f'[ "$5" = libc6-dev ] && printf "#!/bin/sh\\n" >"{machine.bin}/gcc"; exit 0\n',
    )
    assert machine.run("test").returncode == 0
    told = [line for line in machine.told() if line.startswith("root:")]
    assert told == ["root: -n sh -s -- gcc", "root: -n sh -s -- libc6-dev"]


def test_with_rights_redis_is_installed(machine: Machine) -> None:
    machine.without("redis-server")
    machine.add("apt-get")
    machine.add("id", "#!/bin/sh\necho 1000\n")
    # What would run as root is looked at, and not run.
    machine.add(
        "sudo",
        '#!/bin/sh\n[ "$2" = true ] && exit\n'
        'echo "root: $*" >>"$FAKE_TOLD"; cat >>"$FAKE_TOLD"\n'
        f'printf "#!/bin/sh\\n" >"{machine.bin}/redis-server"; chmod 755 "{machine.bin}/redis-server"\n',
    )
    done = machine.run("up")
    assert done.returncode == 0, done.stderr
    told = "\n".join(machine.told())
    assert "root: -n sh -s -- redis-server" in told
    assert "policy-rc.d" in told  # its service is not started
    assert "systemctl disable" in told  # nor at the next boot
    assert machine.run("up").stderr == ""


@pytest.mark.parametrize("how", ["variable", "option", "file", "valkey"])
def test_with_another_redis_none_is_wanted(machine: Machine, how: str) -> None:
    machine.without("redis-server")
    arguments = ["up"]
    variables: dict[str, Any] = {}
    match how:
        case "variable":
            variables["HEARTH_REDIS_URL"] = "redis://127.0.0.1/0"
        case "option":
            arguments.append("--redis-url=redis://127.0.0.1/0")
        case "file":
            (machine.checkout / "hearth.toml").write_text('redis_url = "redis://127.0.0.1/0"\n')
        case "valkey":
            machine.add("valkey-server")
    assert machine.run(*arguments, **variables).returncode == 0


def test_the_locks_name_no_place() -> None:
    for name in ("runtime", "dev"):
        text = (CHECKOUT / f"requirements/{name}.txt").read_text()
        assert "://" not in text
        assert "index" not in text
        packages = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert all("==" in line and line.endswith("\\") for line in packages)
        assert not any(line.startswith(("torch", "axengine")) for line in packages)


def test_this_environment_is_what_the_lock_says() -> None:
    from importlib.metadata import version

    wanted = (CHECKOUT / "requirements/dev.txt").read_text()
    for name in ("celery", "redis", "fastapi", "pydantic", "typer", "httpx", "onnxruntime", "transformers"):
        assert f"{name}=={version(name)} " in wanted, f"{name} in {sys.prefix} is not the locked one"


def test_the_script_can_be_run() -> None:
    for script in ("hearth", ".ci/run", "requirements/lock"):
        assert os.access(CHECKOUT / script, os.X_OK), script
