"""``hearth keys``."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import DataDir, Json

app = typer.Typer(
    help="Who may ask: make keys, list them, revoke them.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    is_admin: Annotated[
        bool, typer.Option("--admin", help="It may also pause queues, load models, change limits.")
    ] = False,
    per_minute: Annotated[
        int | None, typer.Option(help="Requests that make jobs it may send a minute.", min=1)
    ] = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(help="Tokens, of prompts and answers, that its jobs may take a minute.", min=1),
    ] = None,
    days: Annotated[float | None, typer.Option(help="It opens nothing any more after so many days.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once. From the first one on nobody may ask without."""
    from cli.keys import Limits, add

    limits = Limits(days=days, per_minute=per_minute, tokens_per_minute=tokens_per_minute)
    add(name, data_dir, limits, is_admin=is_admin, as_json=as_json)


@app.command("ls")
def keys_ls(data_dir: DataDir = None, as_json: Json = False) -> None:
    """The keys there are; not the keys themselves, which are kept nowhere."""
    from cli.keys import ls

    ls(data_dir, as_json=as_json)


@app.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(help="Its id, or its name.", metavar="KEY")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take a key away; a running server notices at once."""
    from cli.keys import revoke

    revoke(name, data_dir, as_json=as_json)
