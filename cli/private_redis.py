"""The Redis that ``hearth up`` runs for itself: a unix socket, one user with a password, no TCP port."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from cli.errors import CliError
from cli.processes import Process

USER = "hearth"
MAX_MEMORY = "256mb"
"""A job's record takes about 1 kB, its journal 40 B a token; pictures are files. At four fifths new jobs are
refused."""
RIGHTS = "~* &* +@all -@dangerous -@admin +info"
"""Celery's transport needs scripts; it does not need CONFIG, FLUSHALL, KEYS or SHUTDOWN."""
NOBODY = "user default off resetpass ~* &* +@all"
"""Nobody can be this user: it is off and has no password. It must have every right all the same: when Redis
reads its append-only file back it checks each transaction against *its* rights, and without them drops what
every script of ours has written, with a line in the log and nothing more (Redis 7.0.15, November 2026)."""
LONGEST_SOCKET_PATH = 107
"""Bytes in ``sockaddr_un.sun_path`` less the closing zero (unix(7))."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]+")
"""Other characters would have to be quoted differently by each client that takes the path from a URL."""


class PrivateRedis:
    """The files of one private Redis below ``data_dir/redis``; ``process`` is what to supervise."""

    def __init__(self, data_dir: Path) -> None:
        self._server = _find_server()
        self.directory = private_directory(data_dir / "redis")
        self._password = secret_file(self.directory / "password")
        self.socket = _socket_path(self.directory)
        self._lock = _take_lock(self.directory / "lock")
        self._write_users()

    @property
    def url(self) -> str:
        """With the password in it: for the environment of our children, never for a command line or a log."""
        return f"unix://{USER}:{self._password}@{self.socket}?db=0"

    @property
    def process(self) -> Process:
        # The lock is inherited: as long as this Redis lives, no other is started on its files.
        return Process(
            "redis",
            (self._server, str(self._write_config())),
            on_orphaned=signal.SIGTERM,
            patience_s=30.0,
            inherit_fds=(self._lock,),
        )

    def close(self) -> None:
        """Let go of the files when the server has ended; a directory made for the socket alone goes too."""
        os.close(self._lock)
        if self.socket.parent != self.directory:
            with suppress(OSError):
                self.socket.parent.rmdir()

    async def answers(self) -> None:
        """Return when it takes commands. Reading back a long append-only file may take a while."""
        while not await self._pong():  # noqa: ASYNC110 - another process's state has no event here
            await asyncio.sleep(0.02)

    async def _pong(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        try:
            writer.write(f"AUTH {USER} {self._password}\r\nPING\r\n".encode())
            first = await reader.readline()
            return first == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _write_users(self) -> None:
        digest = hashlib.sha256(self._password.encode()).hexdigest()
        write_private(self.directory / "users.acl", f"{NOBODY}\nuser {USER} on #{digest} {RIGHTS}\n")

    def _write_config(self) -> Path:
        lines = {
            "port": "0",
            "unixsocket": _quoted(self.socket),
            "unixsocketperm": "700",
            "aclfile": _quoted(self.directory / "users.acl"),
            "dir": _quoted(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory": MAX_MEMORY,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "notice",
        }
        path = self.directory / "redis.conf"
        write_private(path, "".join(f"{name} {value}\n" for name, value in lines.items()))
        return path


def private_directory(path: Path) -> Path:
    """The directory, made when it is missing, open to nobody else."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def secret_file(path: Path) -> str:
    """The secret kept in ``path`` (mode 0600), made of 192 random bits when there is none yet."""
    if path.exists():
        path.chmod(0o600)
        kept = path.read_text("ascii").strip()
        if kept:
            return kept
    made = secrets.token_urlsafe(24)
    write_private(path, made + "\n")
    return made


def write_private(path: Path, text: str) -> None:
    """Write all of ``path`` or nothing, readable by nobody else at any time."""
    new = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _find_server() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise CliError(
            "redis-server is missing. Run:  sudo apt install redis-server   "
            "(or name one that runs: HEARTH_REDIS_URL=redis://...)"
        )
    return found


def _socket_path(directory: Path) -> Path:
    """Beside the data when the path is short and plain enough, else in a private runtime directory."""
    here = directory / "redis.sock"
    if len(os.fsencode(here)) <= LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(str(here)):
        return here
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not (_PLAIN_PATH.fullmatch(str(runtime)) and os.access(runtime, os.W_OK) and len(str(runtime)) < 60):
        runtime = Path("/tmp")  # noqa: S108 - the directory below it is ours alone, or refused
    private = runtime / f"hearth-{os.getuid()}-{name}"
    with suppress(FileExistsError):
        private.mkdir(mode=0o700)
    status = private.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or private.is_symlink():
        raise CliError(f"{private} belongs to somebody else; set XDG_RUNTIME_DIR to a directory of your own")
    return private / "redis.sock"


def _take_lock(path: Path, patience_s: float = 10.0) -> int:
    """A locked file descriptor. A Redis whose supervisor was killed may need a moment to save and leave."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                os.close(lock)
                raise CliError(
                    f"another redis-server still works in {path.parent}; end it first ({_holders(path)})"
                ) from None
            time.sleep(0.05)
        else:
            return lock


def _holders(path: Path) -> str:
    """Who has ``path`` open, for the error message."""
    target = path.resolve()
    pids = []
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if fd.readlink() == target and int(fd.parts[2]) != os.getpid():
                pids.append(fd.parts[2])
    return "pid " + ", ".join(sorted(set(pids))) if pids else "its pid could not be found"


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
