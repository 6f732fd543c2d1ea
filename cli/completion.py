"""Completion in a shell: the script it reads, and the names it is told by the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

from cli.client import Client
from cli.commands.options import VARIABLE
from cli.errors import USAGE, CliError
from config.settings import CHECKOUT

SHELLS = ("bash", "zsh", "fish")
_PATIENCE_S = 1.0
"""Whoever pressed Tab waits for it."""


def prepare() -> None:
    """Have the shells' questions understood: typer does so by itself only along with options of its own."""
    completion_init()


def script(shell: str) -> str:
    """What the shell is to read, so that ``hearth`` and ``./hearth`` are completed. Raises CliError.

    zsh and fish call the command by its path: it need not be on theirs.
    """
    if shell not in SHELLS:
        raise CliError(
            f"there is no completion for {shell!r}; there is for {', '.join(SHELLS)}", status=USAGE
        )
    text = str(get_completion_script(prog_name="hearth", complete_var=VARIABLE, shell=shell))
    command = _quoted(CHECKOUT / "hearth")
    text = text.replace(f"{VARIABLE}=complete_{shell} hearth", f"{VARIABLE}=complete_{shell} {command}")
    return text.replace("(commandline -cp) hearth", f"(commandline -cp) {command}") + "\n"


def _quoted(path: Path) -> str:
    """For all three shells, and inside fish's double quotes."""
    return "".join(f"\\{each}" if each in " \\\"'$`;&|()<>*?[]#~" else each for each in str(path))


def models(context: Any, incomplete: str) -> list[str]:
    """The ids of all models, those that cannot be used too."""
    found = _asked(context, "/v1/models")
    return _beginning(
        [each["id"] for each in (*found.get("data", ()), *found.get("unusable", ()))], incomplete
    )


def jobs(context: Any, incomplete: str) -> list[str]:
    """The ids of the newest jobs."""
    return _beginning([each["id"] for each in _asked(context, "/v1/jobs").get("data", ())], incomplete)


def _asked(context: Any, path: str) -> dict[str, Any]:
    """What the server says; nothing where there is none, or none that answers at once."""
    given = context.params
    try:
        with Client(given.get("url"), given.get("api_key"), timeout_s=_PATIENCE_S) as client:
            answer: dict[str, Any] = client.get(path)
            return answer
    except CliError:
        return {}


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
