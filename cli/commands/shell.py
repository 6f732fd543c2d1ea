"""``hearth logs`` and ``hearth completion``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.commands.options import DataDir, Json


def logs(
    process: Annotated[
        str | None,
        typer.Option("--process", "-p", help="Only of api, npu (or worker), monitor, redis or flower."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last so many, of each.")] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """What the processes of `hearth up` say, from the files in the data directory."""
    from cli.tail import logs

    logs(process, data_dir, lines, follow=follow, as_json=as_json)


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.", metavar="SHELL")],
) -> None:
    """Print what a shell reads to complete commands, models and jobs.

    bash:  ./hearth completion bash > ~/.local/share/bash-completion/completions/hearth

    zsh:   ./hearth completion zsh > ~/.zfunc/_hearth   (with fpath+=~/.zfunc before compinit)

    fish:  ./hearth completion fish > ~/.config/fish/completions/hearth.fish
    """
    from cli.completion import script

    sys.stdout.write(script(shell))
