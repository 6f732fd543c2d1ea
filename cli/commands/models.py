"""``hearth models``."""

from __future__ import annotations

import typer

from cli.commands.options import ApiKey, Json, ModelArgument, Url

app = typer.Typer(
    help="The models found; load them, unload them.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("ls")
def models_ls(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """The models found, and why one of them cannot be used."""
    from cli.client import Client
    from cli.models import ls

    with Client(url, api_key) as client:
        ls(client, as_json=as_json)


@app.command("load")
def models_load(model: ModelArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Bring a model to the card ahead of its jobs, and wait until it is there."""
    from cli.client import Client
    from cli.models import manage

    with Client(url, api_key) as client:
        raise typer.Exit(manage(client, "load", model, as_json=as_json))


@app.command("unload")
def models_unload(
    model: ModelArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Take a model off the card. Its next job brings it back."""
    from cli.client import Client
    from cli.models import manage

    with Client(url, api_key) as client:
        raise typer.Exit(manage(client, "unload", model, as_json=as_json))
