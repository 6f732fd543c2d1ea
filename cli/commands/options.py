"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HEARTH_URL", show_default="http://127.0.0.1:8850", help="The server."),
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="HEARTH_API_KEY", show_envvar=True, help="The server's key.")
]
Json = Annotated[bool, typer.Option("--json", help="Data as JSON on stdout.")]
JobIdArgument = Annotated[str, typer.Argument(help="The job's id, job_…", metavar="JOB")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The server's data directory.")]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Only this model's.")]
ModelArgument = Annotated[str, typer.Argument(help="The model's id, or an alias.", metavar="MODEL")]
