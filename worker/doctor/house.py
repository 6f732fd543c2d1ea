"""What Hearth itself needs beside a card: Redis, ports, room on the disk, models."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from collections.abc import Iterator

from redis.exceptions import RedisError

from config.keyring import FILE as KEYS_FILE
from config.keyring import Keyring, KeyringError
from config.settings import Settings, SettingsError
from hardware.doctor.finding import Finding, fail, warn, well
from hardware.doctor.machine import Machine
from tasks.connection import connect

GIB, MIB = 1 << 30, 1 << 20
SCARCE_BYTES, NOTHING_BYTES = 2 * GIB, 200 * MIB
"""Results and logs of a week want more than the first; below the second Redis soon cannot write."""
_UNITS = ("/etc/systemd/system/hearth-npu.service", "/lib/systemd/system/hearth-npu.service")
_ANSWER_S = 3.0


def look_at_house(machine: Machine, settings: Settings) -> Iterator[Finding]:
    """All but the models."""
    yield _disk(machine, settings)
    yield _redis(settings)
    yield _access(settings)
    yield from _ports(settings)
    yield from _unit(machine)


def look_at_models(settings: Settings, memory_bytes: int) -> Iterator[Finding]:
    """Every package; ``memory_bytes`` is what a card can hold of them."""
    try:
        from models.catalog import scan

        found = scan(settings).models
    except Exception as error:  # whatever ails the packages of Python, the other lines are to be seen
        yield fail("models", f"cannot be looked through: {error}", "rm -rf .venv && ./hearth doctor")
        return
    usable = [model for model in found if model.problem is None]
    if usable:
        yield well("models", f"{', '.join(model.id for model in usable)} can be used")
    else:
        told = f"none that can be used in {settings.packages_dir}"
        yield fail("models", told, f"put a package into {settings.packages_dir}   (docs/packages.md)")
    for model in found:
        if model.problem is not None:
            yield warn(f"model {model.id}", model.problem, f"look into {model.directory}")
        elif model.needs_bytes is not None and model.needs_bytes > memory_bytes:
            told = f"needs {model.needs_bytes // MIB} MiB of card memory ({model.needs_basis}), there are "
            fix = f"rm -r {model.directory}   (or a smaller build of it)"
            yield warn(f"model {model.id}", f"{told}{memory_bytes // MIB}", fix)


def _disk(machine: Machine, settings: Settings) -> Finding:
    free = machine.free(settings.data_dir)
    if free is None:
        return fail(
            "disk", f"{settings.data_dir} cannot be looked at", "set HEARTH_DATA_DIR to another place"
        )
    told = f"{free / GIB:.1f} GiB free for {settings.data_dir}"
    fix = f"du -xh {settings.data_dir} | sort -h | tail   (or set HEARTH_DATA_DIR)"
    if free < NOTHING_BYTES:
        return fail("disk", f"{told}: jobs cannot be kept", fix)
    return (
        warn("disk", f"{told}: pictures of a week want more", fix)
        if free < SCARCE_BYTES
        else well("disk", told)
    )


def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            return fail("redis", "there is no redis-server", "sudo apt install redis-server")
        return well("redis", f"{program}; `hearth up` runs its own")
    try:
        client = connect(settings)
        try:
            told = client.info("server")
        finally:
            client.close()
    except (RedisError, OSError, SettingsError) as error:
        return fail("redis", f"cannot be reached: {error}", "sudo systemctl start redis-server")
    return well("redis", f"version {told.get('redis_version', 'unknown')} answers")


def _access(settings: Settings) -> Finding:
    """Who may ask. Beyond loopback without any key settings are refused before anything is looked at."""
    ring, file = Keyring(settings.data_dir), settings.data_dir / KEYS_FILE
    try:
        ring.refresh()
        if ring.exists and file.stat().st_mode & 0o022:
            return fail("keys", f"others may write {file}: they can let themselves in", f"chmod 600 {file}")
    except (KeyringError, OSError) as error:
        return fail(
            "keys", f"{error}: nobody may ask", f"sudo chown $USER {file}   (who runs the API owns it)"
        )
    if settings.api_key is None and not ring.exists:
        return well("keys", "none: whoever uses this machine may ask, and nobody else can")
    usable = sum(not key.has_expired for key in ring) + (settings.api_key is not None)
    if not usable:
        return warn("keys", "none opens anything any more: nobody may ask", "./hearth keys add NAME")
    return well("keys", f"{usable} there; whoever asks at {settings.host} has to show one")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Free, or ours already; the dashboard's is taken to be ours where the API's is."""
    api, flower = settings.port, settings.flower_port
    version = None
    if _is_free(settings.host, api):
        yield well("api port", f"{api or 'a free one'} can be listened on")
    elif version := _hearth_at(settings.host, api):
        yield well("api port", f"{api}: Hearth {version} is serving there")
    else:
        yield fail(
            "api port",
            f"{api} is in use by something else",
            "HEARTH_PORT=0 ./hearth up   (who: sudo ss -ltnp)",
        )
    for name, port in settings.ports.items():
        if name != "port":
            yield _further_port(settings.host, name, port)
    if not settings.flower:
        return
    if _is_free("127.0.0.1", flower):
        yield well("dashboard port", f"{flower or 'a free one'} can be listened on")
    elif version:
        yield well("dashboard port", f"{flower}: in use, as it should be while Hearth serves")
    else:
        yield fail(
            "dashboard port", f"{flower} is in use by something else", "HEARTH_FLOWER_PORT=0 ./hearth up"
        )


def _further_port(host: str, name: str, port: int) -> Finding:
    line = name.replace("_", " ")
    if _is_free(host, port):
        return well(line, f"{port or 'a free one'} can be listened on")
    if version := _hearth_at(host, port):
        return well(line, f"{port}: Hearth {version} is serving there")
    told = f"{port} is in use by something else"
    return fail(line, told, f"sudo ss -ltnp 'sport = :{port}'   (who is it? or unset HEARTH_{name.upper()})")


def _is_free(host: str, port: int) -> bool:
    return port == 0 or _can_listen(host, port)


def _can_listen(host: str, port: int) -> bool:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return True
    except OSError:
        return False


def _hearth_at(host: str, port: int) -> str | None:
    """The version of the Hearth that answers there."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - where one asks, not listens
    try:
        with urllib.request.urlopen(f"http://{name}:{port}/health", timeout=_ANSWER_S) as response:
            return str(json.load(response)["version"])
    except (OSError, ValueError, KeyError):
        return None


def _unit(machine: Machine) -> Iterator[Finding]:
    """An installed unit that would have the card's owner killed in the middle of a call."""
    text = next(filter(None, map(machine.text, _UNITS)), None)
    if text is None:
        return
    lines = {line.strip() for line in text.splitlines()}
    missing = [
        line for line in ("KillMode=mixed", "SendSIGKILL=no", "TimeoutStopSec=infinity") if line not in lines
    ]
    if missing:
        told = f"hearth-npu.service lacks {', '.join(missing)}: stopping it can wedge the card"
        fix = "sudo cp systemd/hearth-npu.service /etc/systemd/system/ && sudo systemctl daemon-reload"
        yield warn("systemd", told, fix)
    else:
        yield well("systemd", "hearth-npu.service lets the card go in its own time")
