"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "_HEARTH_COMPLETE"
"""Set by a shell that asks how a line may go on. The start script looks at it too."""

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HEARTH_URL", show_default="http://127.0.0.1:8850", help="The server."),
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="HEARTH_API_KEY", show_envvar=True, help="The server's key.")
]
Json = Annotated[bool, typer.Option("--json", help="Data as JSON on stdout.")]


def _models(context: typer.Context, incomplete: str) -> list[str]:
    from cli.completion import models

    return models(context, incomplete)


def _jobs(context: typer.Context, incomplete: str) -> list[str]:
    from cli.completion import jobs

    return jobs(context, incomplete)


JobIdArgument = Annotated[
    str, typer.Argument(help="The job's id, job_…", metavar="JOB", autocompletion=_jobs)
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The server's data directory.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="Only this model's.", autocompletion=_models)
]
ModelArgument = Annotated[
    str, typer.Argument(help="The model's id, or an alias.", metavar="MODEL", autocompletion=_models)
]
AskedModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Which model; default: the first of its kind.", autocompletion=_models
    ),
]
