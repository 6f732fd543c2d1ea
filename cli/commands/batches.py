"""``hearth batches``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import ApiKey, Json, Url

app = typer.Typer(
    help="Files of requests: submit one, wait for it, save what came of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
BatchArgument = Annotated[str, typer.Argument(help="The batch's id, batch_…", metavar="BATCH")]


@app.command("submit")
def batches_submit(
    file: Annotated[Path, typer.Argument(help="Requests as JSON, one a line.", metavar="FILE.jsonl")],
    endpoint: Annotated[
        str | None, typer.Option(help="Which endpoint answers them; default: what the first line names.")
    ] = None,
    and_wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Queue all requests of a file, or none; the id of the batch goes to stdout."""
    from cli.batches import submit
    from cli.client import Client

    with Client(url, api_key) as client:
        raise typer.Exit(submit(client, file, endpoint, and_wait=and_wait, as_json=as_json))


@app.command("ls")
def batches_ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many at most.")] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """The newest batches."""
    from cli.batches import ls
    from cli.client import Client

    with Client(url, api_key) as client:
        ls(client, limit, as_json=as_json)


@app.command("show")
def batches_show(
    batch: BatchArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """One batch: how it stands, what is wrong with its file, what came of it."""
    from cli.batches import show
    from cli.client import Client

    with Client(url, api_key) as client:
        show(client, batch, as_json=as_json)


@app.command("wait")
def batches_wait(
    batch: BatchArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Wait for the end of a batch. The exit status is 0 only if every request was answered."""
    from cli.batches import wait
    from cli.client import Client

    with Client(url, api_key) as client:
        raise typer.Exit(wait(client, batch, as_json=as_json))


@app.command("cancel")
def batches_cancel(
    batch: BatchArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Cancel what has not been answered; what has been can be saved all the same."""
    from cli.batches import cancel
    from cli.client import Client

    with Client(url, api_key) as client:
        cancel(client, batch, as_json=as_json)


@app.command("save")
def batches_save(
    batch: BatchArgument,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A directory, or - for stdout; default: here.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Save the answers of a batch, and what got none; the paths go to stdout."""
    from cli.batches import save
    from cli.client import Client

    with Client(url, api_key) as client:
        save(client, batch, out, as_json=as_json)
