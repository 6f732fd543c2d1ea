"""``hearth queue``."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import ApiKey, Json, ModelOption, Url

app = typer.Typer(help="What waits and runs; pause it, resume it.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def queue_show(
    context: typer.Context, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """What waits and runs, what is held, what is paused."""
    from cli.client import Client
    from cli.queue import show

    if context.invoked_subcommand is None:
        with Client(url, api_key) as client:
            show(client, as_json=as_json)


JobClassOption = Annotated[
    str | None, typer.Option("--class", help="Only priority, chat, image or batch.", metavar="CLASS")
]


@app.command("pause")
def queue_pause(
    job_class: JobClassOption = None,
    model: ModelOption = None,
    rest_running: Annotated[
        bool, typer.Option("--rest-running", help="The running job rests, instead of being finished.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="Why, for everybody who waits.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Serve no more jobs: of a class, of a model, or none at all. They are still accepted."""
    from cli.client import Client
    from cli.queue import pause

    wanted = {"class": job_class, "model": model, "rest_running": rest_running, "message": message}
    with Client(url, api_key) as client:
        pause(client, wanted, as_json=as_json)


@app.command("resume")
def queue_resume(
    job_class: JobClassOption = None,
    model: ModelOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Take back every pause: of a class, of a model, or all of them."""
    from cli.client import Client
    from cli.queue import resume

    with Client(url, api_key) as client:
        resume(client, {"class": job_class, "model": model}, as_json=as_json)
