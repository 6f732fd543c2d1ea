"""The ``hearth`` command. A subcommand loads what it needs when it runs: help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.commands import ask, batches, jobs, keys, models, queue, shell, webhooks
from cli.commands.options import VARIABLE, Json
from cli.errors import CliError

app = typer.Typer(
    help="Keeps the models warm and the card cool.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""For commands whose arguments belong to another program."""


@app.command()
def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beyond loopback a key is needed.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; 0 picks a free one.")] = None,
    ollama_port: Annotated[
        int | None, typer.Option(help="Listen there too; 11434 is where Ollama's clients look.")
    ] = None,
    a1111_port: Annotated[
        int | None, typer.Option(help="Listen there too; 7860 is where AUTOMATIC1111's clients look.")
    ] = None,
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
        "ollama_port": ollama_port,
        "a1111_port": a1111_port,
        "data_dir": data_dir,
        "models_dir": models_dir,
        "redis_url": redis_url,
    }
    try:
        settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        raise CliError(str(error), status=2) from None
    raise typer.Exit(serve(settings, Options(verbose=verbose, as_json=as_json)))


app.command()(ask.chat)
app.command()(ask.image)
app.add_typer(jobs.app, name="jobs")
app.add_typer(batches.app, name="batches")
app.add_typer(models.app, name="models")
app.add_typer(queue.app, name="queue")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.command()(shell.logs)
app.command()(shell.completion)


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
    """The test suite, on up to four cores; arguments go to pytest, and with any of them it runs on one."""
    from cli.tools import hand_over, on_all_cores

    hand_over("pytest", context.args or on_all_cores(), in_checkout=True)


@app.command(context_settings=_PASS_ON)
def bench(context: typer.Context) -> None:
    """Run one of the benchmarks: hearth bench NAME [its arguments]."""
    from cli.tools import bench

    bench(context.args)


def main() -> None:
    """Run the command line. What goes wrong is one line on stderr and an exit status that is not 0."""
    if os.environ.get(VARIABLE):
        from cli.completion import prepare

        prepare()
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
