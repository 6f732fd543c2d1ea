"""The vendor's axengine package: on no index, so a local wheel named in the settings is installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cli.errors import CliError


def install(wheel: Path | None, say: Callable[[str], None]) -> None:
    """Put ``wheel`` into this environment, once per content. Nothing is fetched from anywhere.

    Raises:
        CliError: the file is not there, or pip refuses it.
    """
    if wheel is None:
        return
    try:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise CliError(
            f"axengine_wheel {wheel} cannot be read: {error.strerror}; correct the setting"
        ) from None
    stamp = Path(sys.prefix) / ".hearth-axengine"
    if stamp.is_file() and stamp.read_text("ascii") == digest:
        return
    say(f"installing {wheel.name} ...")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--no-deps", "--no-index", "--force-reinstall", str(wheel)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip gave no reason"
        raise CliError(f"axengine_wheel {wheel} cannot be installed: {reason}")
    stamp.write_text(digest, "ascii")
