"""``hearth jobs``."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import ApiKey, JobIdArgument, Json, ModelOption, Url

app = typer.Typer(
    help="Look at jobs, wait for them, cancel them, save what they drew.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("ls")
def jobs_ls(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: ModelOption = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind: chat or image.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only the jobs of this batch.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many at most.")] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """The newest jobs."""
    from cli.client import Client
    from cli.jobs import ls

    with Client(url, api_key) as client:
        query = {"state": state, "model": model, "kind": kind, "batch": batch, "limit": limit}
        ls(client, query, as_json=as_json)


@app.command("show")
def jobs_show(job: JobIdArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """One job: its state, its place, what it made."""
    from cli.client import Client
    from cli.jobs import show

    with Client(url, api_key) as client:
        show(client, job, as_json=as_json)


@app.command("wait")
def jobs_wait(job: JobIdArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Follow a job to its end. The exit status is 0 if it succeeded, 4 if not."""
    from cli.client import Client
    from cli.jobs import wait

    with Client(url, api_key) as client:
        raise typer.Exit(wait(client, job, as_json=as_json))


@app.command("cancel")
def jobs_cancel(job: JobIdArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Cancel a job: at once while it waits, at its next step while it runs."""
    from cli.client import Client
    from cli.jobs import cancel

    with Client(url, api_key) as client:
        cancel(client, job, as_json=as_json)


@app.command("save")
def jobs_save(
    job: Annotated[str, typer.Argument(help="The id of a job or a batch.", metavar="JOB")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A directory, a file, or - for stdout; default: here.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Save the pictures of a job, or of a whole batch; their paths go to stdout."""
    from cli.client import Client
    from cli.files import Place
    from cli.jobs import save

    with Client(url, api_key) as client:
        save(client, job, Place(out), as_json=as_json)
