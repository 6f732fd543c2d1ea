"""``hearth models``."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import ApiKey, Json, ModelArgument, Url

app = typer.Typer(
    help="The models found; pull them, remove them, load them, unload them.",
    no_args_is_help=True,
    rich_markup_mode=None,
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


@app.command("pull")
def models_pull(
    model: Annotated[str, typer.Argument(help="The name of a package in the catalogue.", metavar="MODEL")],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Bring a package from the server's catalogue (models.catalogue). What was begun is gone on with."""
    from cli.client import Client
    from cli.pull import pull

    with Client(url, api_key) as client:
        pull(client, model, as_json=as_json)


@app.command("rm")
def models_rm(model: ModelArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Take a model off the card and remove its package from the models directory."""
    from cli.client import Client
    from cli.pull import rm

    with Client(url, api_key) as client:
        rm(client, model, as_json=as_json)
