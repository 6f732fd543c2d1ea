"""The ``hearth`` command. A subcommand loads what it needs when it runs: help is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HEARTH_URL", show_default="http://127.0.0.1:8850", help="The server."),
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="HEARTH_API_KEY", show_envvar=True, help="The server's key.")
]
Json = Annotated[bool, typer.Option("--json", help="Data as JSON on stdout.")]
JobIdArgument = Annotated[str, typer.Argument(help="The job's id, job_…", metavar="JOB")]

app = typer.Typer(
    help="Keeps the models warm and the card cool.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
jobs = typer.Typer(
    help="Look at jobs, wait for them, cancel them, save what they drew.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
queue = typer.Typer(help="What waits and runs; pause it, resume it.", rich_markup_mode=None)
models = typer.Typer(
    help="The models found; load them, unload them.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(jobs, name="jobs")
app.add_typer(models, name="models")
app.add_typer(queue, name="queue")
keys = typer.Typer(
    help="Who may ask: make keys, list them, revoke them.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys, name="keys")

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""For commands whose arguments belong to another program."""


@app.command()
def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beyond loopback a key is needed.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; 0 picks a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="Where model packages are looked for.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="An existing Redis instead of a private one.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what every process says.")] = False,
    as_json: Json = False,
) -> None:
    """Start everything, serve, and stop everything at Ctrl-C. Options are settings: docs/settings.md."""
    from cli.up import Options
    from cli.up import up as serve
    from config.settings import SettingsError, read_settings

    given = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "models_dir": models_dir,
        "redis_url": redis_url,
    }
    try:
        settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        raise CliError(str(error), status=2) from None
    raise typer.Exit(serve(settings, Options(verbose=verbose, as_json=as_json)))


@app.command()
def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="Without one: stdin when piped, else a conversation.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model; default: the first.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Length of the answer at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Ask a model; the answer streams to stdout, what happens meanwhile to stderr."""
    from cli.chat import Question, chat
    from cli.client import Client

    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    question = Question(model, system, {name: value for name, value in options.items() if value is not None})
    with Client(url, api_key) as client:
        chat(client, question, prompt, as_json=as_json)


@app.command()
def image(
    prompt: Annotated[str, typer.Argument(help="What is to be seen.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model; default: the first that draws.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, one of the model's sizes.")] = None,
    steps: Annotated[int | None, typer.Option(help="One of the model's numbers of steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same picture.")] = None,
    negative: Annotated[
        str | None, typer.Option(help="What is not to be seen; needs --guidance above 1.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="1 to 2; above 1 takes twice as long.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="A picture to start from.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of --from is drawn anew; default 0.75.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where this picture is white, --from is drawn anew.")
    ] = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="How many pictures.")] = None,
    picture_format: Annotated[str | None, typer.Option("--format", help="png, jpeg or webp.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A directory, a file, or - for stdout; default: here.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Draw a picture and save it; its path goes to stdout, what happens meanwhile to stderr."""
    from cli.client import Client
    from cli.files import Place
    from cli.image import Wish, image

    options = {
        "model": model,
        "size": size,
        "steps": steps,
        "seed": seed,
        "negative_prompt": negative,
        "guidance_scale": guidance,
        "strength": strength,
        "n": number,
        "format": picture_format,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with Client(url, api_key) as client:
        wish = Wish(prompt, given, source, mask)
        raise typer.Exit(image(client, wish, Place(out), as_json=as_json))


@jobs.command("ls")
def jobs_ls(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only jobs of this model.")] = None,
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


@jobs.command("show")
def jobs_show(job: JobIdArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """One job: its state, its place, what it made."""
    from cli.client import Client
    from cli.jobs import show

    with Client(url, api_key) as client:
        show(client, job, as_json=as_json)


@jobs.command("wait")
def jobs_wait(job: JobIdArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Follow a job to its end. The exit status is 0 only if it succeeded."""
    from cli.client import Client
    from cli.jobs import wait

    with Client(url, api_key) as client:
        raise typer.Exit(wait(client, job, as_json=as_json))


@jobs.command("cancel")
def jobs_cancel(job: JobIdArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Cancel a job: at once while it waits, at its next step while it runs."""
    from cli.client import Client
    from cli.jobs import cancel

    with Client(url, api_key) as client:
        cancel(client, job, as_json=as_json)


@jobs.command("save")
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


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The server's data directory.")]


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    is_admin: Annotated[
        bool, typer.Option("--admin", help="It may also pause queues, load models, change limits.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once. From the first one on nobody may ask without."""
    from cli.keys import add

    add(name, data_dir, is_admin=is_admin, as_json=as_json)


@keys.command("ls")
def keys_ls(data_dir: DataDir = None, as_json: Json = False) -> None:
    """The keys there are; not the keys themselves, which are kept nowhere."""
    from cli.keys import ls

    ls(data_dir, as_json=as_json)


@keys.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(help="Its id, or its name.", metavar="KEY")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take a key away; a running server notices at once."""
    from cli.keys import revoke

    revoke(name, data_dir, as_json=as_json)


@models.command("ls")
def models_ls(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """The models found, and why one of them cannot be used."""
    from cli.client import Client
    from cli.models import ls

    with Client(url, api_key) as client:
        ls(client, as_json=as_json)


@queue.callback(invoke_without_command=True)
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
    str | None, typer.Option("--class", help="Only chat, image or batch.", metavar="CLASS")
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Only this model's.")]


@queue.command("pause")
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


@queue.command("resume")
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


ModelArgument = Annotated[str, typer.Argument(help="The model's id, or an alias.", metavar="MODEL")]


@models.command("load")
def models_load(model: ModelArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Bring a model to the card ahead of its jobs, and wait until it is there."""
    from cli.client import Client
    from cli.models import manage

    with Client(url, api_key) as client:
        raise typer.Exit(manage(client, "load", model, as_json=as_json))


@models.command("unload")
def models_unload(
    model: ModelArgument, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Take a model off the card. Its next job brings it back."""
    from cli.client import Client
    from cli.models import manage

    with Client(url, api_key) as client:
        raise typer.Exit(manage(client, "unload", model, as_json=as_json))


@app.command(context_settings=_PASS_ON)
def card(context: typer.Context) -> None:
    """Look at the card, or make the virtual one suffer (its own --help tells how)."""
    from cli.tools import hand_over

    hand_over("hardware.virtual", context.args)


@app.command(context_settings=_PASS_ON)
def doctor(context: typer.Context) -> None:
    """Look whether this machine can serve, and say how to mend what cannot (its own --help tells more)."""
    from cli.tools import hand_over

    hand_over("worker.doctor", context.args)


@app.command()
def check(as_json: Json = False) -> None:
    """Lint, types, the order of the rooms, the shell scripts."""
    from cli.check import check

    raise typer.Exit(check(as_json=as_json))


@app.command(context_settings=_PASS_ON)
def test(context: typer.Context) -> None:
    """The test suite; arguments go to pytest."""
    from cli.tools import hand_over

    hand_over("pytest", context.args, in_checkout=True)


@app.command(context_settings=_PASS_ON)
def bench(context: typer.Context) -> None:
    """Run one of the benchmarks: hearth bench NAME [its arguments]."""
    from cli.tools import bench

    bench(context.args)


def main() -> None:
    """Run the command line. What goes wrong is one line on stderr and an exit status that is not 0."""
    try:
        app(prog_name="hearth")
    except CliError as error:
        sys.stderr.write(f"hearth: {error.message}\n")
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has left (``hearth jobs ls | head``): nothing more to say, to nobody.
        sys.stderr.close()
        sys.exit(141)
