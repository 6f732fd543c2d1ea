"""A house of stand-ins: the real supervisor and a real Redis around processes that tell what befalls them.

``python -m tests.cli.standins DATA_DIR`` is ``hearth up --port 0`` with another process table. What befalls a
stand-in goes to ``DATA_DIR/told``, one line each: ``api start 1234``, ``npu term``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from cli.errors import CliError
from cli.processes import Process
from cli.up import Options, up
from config.settings import CHECKOUT, Settings, read_settings


def table(settings: Settings, flower_auth: str) -> tuple[Process, ...]:
    def command(name: str) -> tuple[str, ...]:
        return (sys.executable, "-S", str(CHECKOUT / "tests/cli/standin.py"), name)

    return (
        Process("api", command("api")),
        Process("npu", command("npu"), on_orphaned=signal.SIGTERM, owns_card=True, patience_s=1.0),
        Process("monitor", command("monitor")),
        Process("flower", command("flower"), {"FLOWER_BASIC_AUTH": flower_auth}),
    )


def main() -> int:
    data_dir = Path(sys.argv[1])
    os.environ["STANDIN_TOLD"] = str(data_dir / "told")
    settings = read_settings(data_dir=data_dir, port=0, flower_port=0)
    try:
        return up(settings, Options(as_json=True), table)
    except CliError as error:
        sys.stderr.write(f"hearth: {error.message}\n")
        return error.status


if __name__ == "__main__":
    sys.exit(main())
