"""Running ``axcl-smi``: never two at once, never without an end, killed only after it was asked to leave.

It opens the card and asks it over the bus; on a card that does not answer it hangs and prints nothing. What
is left of such a run would meet the next one, so there is no next one until it has gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardware.smi.text import complaint

NAMES = ("axcl-smi", "axcl_smi")
"""The second one is how it was called up to V2.18."""
PLACES = ("/usr/bin/axcl", "/usr/local/bin/axcl", "/usr/bin", "/usr/local/bin")
"""Where its packages put it. /etc/profile, which would put that on the path, is not read by services."""
LIBRARIES = "/usr/lib/axcl"

GRACE_S = 1.0
"""From asking it to leave to killing it. It reads; nothing on the card depends on its living on."""


_ELSEWHERE = "is already running"
"""What the tool says when another one runs that does not hold our lock."""
_FORGOTTEN_S = 60.0
"""Nobody lets it run so long: whoever started it is gone."""


class SmiError(Exception):
    """No reading: the tool is missing, still at an earlier one, silent, or unhappy. One line, for people."""


class SmiBusy(SmiError):
    """Somebody's tool is running, the monitor's most often; it will be over in a moment."""


class Smi:
    """``axcl-smi`` on this machine. ``lock_path``: held by the tool itself for as long as it lives.

    Callable from any process; one that comes while another's tool runs is told so.
    """

    def __init__(self, program: Path, lock_path: Path, *, timeout_s: float) -> None:
        self.program = program
        self._lock_path = lock_path
        self._timeout_s = timeout_s
        self._left: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str, answer: str = "", timeout_s: float | None = None) -> str:
        """What the tool prints; ``answer`` is what it reads where it asks something.

        Raises:
            SmiError: see the class.
        """
        limit_s = timeout_s or self._timeout_s
        self._left = [process for process in self._left if process.poll() is None]
        process = self._start(arguments)
        try:
            output, _ = process.communicate(answer.encode(), limit_s)
        except subprocess.TimeoutExpired:
            self._end(process)
            raise SmiError(f"{self.program.name} gave no answer in {limit_s:g} s and was ended") from None
        text = output.decode("utf-8", "replace")
        if process.returncode != 0:
            why = complaint(text) or f"it ended with status {process.returncode}"
            kind = SmiBusy if _ELSEWHERE in why else SmiError
            raise kind(f"{self.program.name}: {why}")
        return text

    def _start(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        paths = filter(None, (LIBRARIES, os.environ.get("LD_LIBRARY_PATH")))
        environment = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": os.pathsep.join(paths)}
        with self._locked() as lock:
            try:
                # It inherits the lock, which so lasts exactly as long as it does, whatever becomes of us.
                process = subprocess.Popen(
                    [self.program, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
            except OSError as error:
                raise SmiError(f"{self.program} cannot be run: {error.strerror or error}") from None
            os.pwrite(lock, f"{process.pid:<20}".encode(), 0)
            return process

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            with suppress(PermissionError):
                # Whoever makes it, root too, must not lock others out for good; its directory is private.
                os.fchmod(lock, 0o666)
        except OSError as error:
            raise SmiError(f"{self._lock_path} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield lock
        except BlockingIOError:
            raise SmiBusy(self._nudge(lock)) from None
        finally:
            os.close(lock)

    def _nudge(self, lock: int) -> str:
        """Have an earlier run leave that outlived whoever should have ended it; what is to be said of it."""
        age_s = time.time() - os.fstat(lock).st_mtime
        pid = int(os.pread(lock, 20, 0) or b"0")
        if pid and age_s > _FORGOTTEN_S:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL if age_s > 2 * _FORGOTTEN_S else signal.SIGTERM)
        return f"an earlier {self.program.name} (pid {pid or 'unknown'}) has not ended yet"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """TERM, and KILL when that did not help. One that stays even then is left alone and remembered."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=GRACE_S)
                return
        self._left.append(process)


def find_smi(named: Path | None = None, root: Path = Path("/")) -> Path | None:
    """The tool: the one that is ``named``, else where its packages put it, else on the path; None is none."""
    if named is not None:
        return named
    places = [root / place.lstrip("/") / name for place in PLACES for name in NAMES]
    found = next((path for path in places if os.access(path, os.X_OK)), None)
    if found is None and root == Path("/"):
        on_path = next(filter(None, map(shutil.which, NAMES)), None)
        found = Path(on_path) if on_path else None
    return found
