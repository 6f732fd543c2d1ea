"""``hearth webhooks``."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import ApiKey, Json, Url

app = typer.Typer(
    help="Who is told that something has ended: add, list, revoke, test.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(help="Its id, or its name.", metavar="WEBHOOK")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", help="Of the API key with this name, for admins; default: of your own.", metavar="NAME"
    ),
]


@app.command("add")
def webhooks_add(
    address: Annotated[str, typer.Argument(help="Allowed by the settings webhooks.* only.", metavar="URL")],
    events: Annotated[
        list[str] | None, typer.Option("--events", help="Like batch.completed; again for more. Default: all.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="For people; default: where it goes.")] = None,
    key: KeyOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Have an address told, and print the secret that everything is signed with, once."""
    from cli.client import Client
    from cli.webhooks import add

    wanted = [part for given in events or [] for part in given.split(",") if part]
    with Client(url, api_key) as client:
        add(client, address, wanted, name=name, key=key, as_json=as_json)


@app.command("ls")
def webhooks_ls(
    key: KeyOption = None, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """The addresses that are told, and of what."""
    from cli.client import Client
    from cli.webhooks import ls

    with Client(url, api_key) as client:
        ls(client, key=key, as_json=as_json)


@app.command("revoke")
def webhooks_revoke(
    name: NameArgument, key: KeyOption = None, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Tell an address nothing any more; what is on its way there is dropped."""
    from cli.client import Client
    from cli.webhooks import revoke

    with Client(url, api_key) as client:
        revoke(client, name, key=key, as_json=as_json)


@app.command("test")
def webhooks_test(
    name: NameArgument,
    event: Annotated[
        str, typer.Option("--event", help="What the sample says has happened.")
    ] = "job.succeeded",
    key: KeyOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Send a signed sample now, and say what was answered. The exit status is 0 only for a yes."""
    from cli.client import Client
    from cli.webhooks import test

    with Client(url, api_key) as client:
        raise typer.Exit(test(client, name, event, key=key, as_json=as_json))


@app.command("secret")
def webhooks_secret(
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make a new one; the old one signs no more.")
    ] = False,
    key: KeyOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """The secret for addresses that jobs name themselves ("webhook" in POST /v1/jobs)."""
    from cli.client import Client
    from cli.webhooks import secret

    with Client(url, api_key) as client:
        secret(client, rotate=rotate, key=key, as_json=as_json)
