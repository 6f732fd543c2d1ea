"""``python -m worker.doctor``, behind ``hearth doctor``: data to stdout, exit status 1 on a FAIL."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from config.settings import Settings, SettingsError, read_settings
from hardware.doctor.finding import Status
from hardware.doctor.machine import Machine
from worker import logs
from worker.doctor.examine import examine, worst
from worker.doctor.report import Page, as_data


def main(arguments: Sequence[str] | None = None, machine: Machine | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings()
    except SettingsError as error:
        sys.stderr.write(f"doctor: {error}\n")
        return 2
    machine = machine or Machine()
    if options.card_probe:
        if stranger := _stranger(settings):
            sys.stderr.write(f"doctor: {stranger}\n")
            return 2
        from worker.doctor.probes import show_probes

        return show_probes(settings, _page(), as_json=options.json)
    if options.bundle is not None:
        from worker.doctor.bundle import write_bundle

        sys.stdout.write(f"{write_bundle(machine, settings, options.bundle)}\n")
        return 0
    return _examine(machine, settings, as_json=options.json)


def _examine(machine: Machine, settings: Settings, *, as_json: bool) -> int:
    page, groups = _page(), []
    for group in examine(machine, settings):
        groups.append(group)
        if not as_json:
            sys.stdout.write(page.group(group))
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps(as_data(groups), ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(page.summary(groups))
    return 1 if worst(groups) is Status.FAIL else 0


def _stranger(settings: Settings) -> str | None:
    """What is to be done when the card's files would belong to another user than the one who serves."""
    place = settings.data_dir
    if not place.is_dir() or place.stat().st_uid == os.geteuid():
        return None
    who = place.owner()
    return f"{place} belongs to {who}: sudo -u {who} env HEARTH_DATA_DIR={place} ./hearth doctor --card-probe"


def _page() -> Page:
    return Page(shutil.get_terminal_size((100, 24)).columns, colour=sys.stdout.isatty())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hearth doctor",
        description="Look whether this machine can serve, and say how to mend what cannot.",
    )
    parser.add_argument("--json", action="store_true", help="the findings as one JSON object")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--card-probe",
        action="store_true",
        help="open the card, try everything that only a card can settle, and print one table",
    )
    what.add_argument(
        "--bundle",
        nargs="?",
        const=Path(),
        type=Path,
        metavar="DIR",
        help="collect findings, logs and settings, without prompts or keys, in one archive in DIR (here)",
    )
    return parser


if __name__ == "__main__":
    logs.setup("info" if "--card-probe" in sys.argv else "error")
    sys.exit(main())
