"""How a benchmark tells its figures: a table for people, one JSON object for programs, a PNG for both."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``target`` is the bound it is held against, as text; None: there is none."""

    name: str
    value: float
    unit: str
    target: str | None = None
    is_met: bool | None = None


def at_most(name: str, value: float, unit: str, bound: float) -> Row:
    """A row with an upper bound."""
    return Row(name, value, unit, f"≤ {bound:,g}", value <= bound)


def at_least(name: str, value: float, unit: str, bound: float) -> Row:
    """A row with a lower bound."""
    return Row(name, value, unit, f"≥ {bound:,.4g}", value >= bound)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON file and the picture go")
    return parser


def tell(name: str, rows: Sequence[Row], figures: Mapping[str, Any], *, as_json: bool, out: Path) -> Path:
    """Print the figures and write ``<out>/<name>.json``. Returns where the picture belongs."""
    out.mkdir(parents=True, exist_ok=True)
    about = {"python": platform.python_version(), "machine": platform.machine()}
    document = json.dumps({**figures, "about": about}, indent=2)
    (out / f"{name}.json").write_text(document + "\n")
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        Console().print(_table(name, rows))
    return out / f"{name}.png"


def _table(name: str, rows: Sequence[Row]) -> Table:
    table = Table(title=f"hearth bench {name}")
    for heading in ("figure", "measured", "target", ""):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for row in rows:
        verdict = "" if row.is_met is None else ("met" if row.is_met else "MISSED")
        table.add_row(row.name, f"{_number(row.value)} {row.unit}".strip(), row.target or "", verdict)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank). Raises ValueError when empty."""
    if not values:
        raise ValueError("no values were measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
