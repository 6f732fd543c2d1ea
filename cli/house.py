"""What must be in order before the first process starts: directories, lock, ports, Redis."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from cli.errors import CliError
from cli.private_redis import private_directory, secret_file
from config.settings import CHECKOUT, Settings, config_file

DASHBOARD_USER = "hearth"


class HouseLock:
    """One ``hearth up`` per data directory, for as long as this process lives."""

    def __init__(self, data_dir: Path) -> None:
        self._file = (data_dir / "hearth.lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "not known"
            raise CliError(
                f"hearth already runs on {data_dir} (pid {pid}): stop that one, or use another --data-dir"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def prepare_directories(settings: Settings) -> Path:
    """Make the data directory, its logs and the default models directory. Returns the logs' directory.

    Raises:
        CliError: one of them cannot be made, read or written.
    """
    data_dir = settings.data_dir
    try:
        private_directory(data_dir)
        logs = private_directory(data_dir / "logs")
        if settings.models_dir is None:
            settings.packages_dir.mkdir(exist_ok=True)
    except OSError as error:
        raise CliError(
            f"the data directory {data_dir} cannot be used: {error.strerror}; choose another with --data-dir"
        ) from None
    _readable(settings.packages_dir)
    return logs


def _readable(models_dir: Path) -> None:
    try:
        with os.scandir(models_dir) as entries:
            next(entries, None)
    except OSError as error:
        raise CliError(
            f"the models directory {models_dir} cannot be read: {error.strerror}; correct --models-dir"
        ) from None


def claim_port(host: str, port: int, *, what: str, instead: str) -> int:
    """The port that ``what`` will listen on; a free one for 0.

    Raises:
        CliError: somebody listens there already, or the address is not ours to listen on.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is in use"
        else:
            reason = f"{host}:{port} cannot be listened on ({error.strerror or error})"
        raise CliError(f"{what}: {reason}; {instead}") from None


def reach_redis(url: str) -> None:
    """Raises CliError when there is no Redis that takes our commands; the password is not shown."""
    import redis  # not needed where we run our own

    where = _shown(url)
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3)
    except ValueError:
        raise CliError("redis_url must begin with redis://, rediss:// or unix://") from None
    try:
        client.ping()
    except redis.RedisError as error:
        raise CliError(
            f"Redis at {where} cannot be used: {error}; start it, correct --redis-url, or leave it out"
        ) from None
    finally:
        client.close()


def _shown(url: str) -> str:
    parts = urlsplit(url)
    with suppress(ValueError):
        return f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or parts.path
    return parts.hostname or parts.path


def dashboard_secret(data_dir: Path) -> tuple[str, bool]:
    """``user:password`` of the dashboard, and whether it was made just now."""
    path = data_dir / "flower-password"
    is_new = not path.exists()
    return f"{DASHBOARD_USER}:{secret_file(path)}", is_new


def child_environment(settings: Settings, redis_url: str) -> dict[str, str]:
    """What our processes read: all that may come from our own arguments, and no relative path."""
    named: Mapping[str, object | None] = {
        "HEARTH_HOST": settings.host,
        **{f"HEARTH_{name.upper()}": port for name, port in settings.ports.items()},
        "HEARTH_DATA_DIR": settings.data_dir,
        "HEARTH_MODELS_DIR": settings.models_dir,
        "HEARTH_FLOWER_PORT": settings.flower_port,
        "HEARTH_REDIS_URL": redis_url,
        "HEARTH_CONFIG": (file := config_file()) and file.absolute(),
    }
    path = [str(CHECKOUT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        **{name: str(value) for name, value in named.items() if value is not None},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "PYTHONUNBUFFERED": "1",
    }
