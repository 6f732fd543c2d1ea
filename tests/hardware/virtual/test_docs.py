"""docs/virtual-card.md holds what it says: its example runs, its figures are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from config.groups import VirtualCardSettings
from config.settings import CHECKOUT
from hardware.card import NUMPY_DTYPES
from hardware.virtual import arena, thermal
from hardware.virtual import format as graph_format
from hardware.virtual.state import HOT_C, SLOW_FACTOR, Fault
from hardware.virtual.timing import TIMINGS

PAGE = (CHECKOUT / "docs" / "virtual-card.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_runs_and_prints_what_its_comments_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/virtual-card.md", "exec"), {"__name__": "example"})  # noqa: S102
    promised = re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == promised
    assert len(graph_format.read_groups(tmp_path / "linear.axmodel").groups) == 2


def test_the_groups_shown_are_groups(tmp_path: Path) -> None:
    (shown,) = blocks("json")
    graph_file = graph_format._graph_file({"hearth.format": "1", "hearth.groups": shown}, 17)
    assert graph_file.placeholders == (frozenset(), frozenset({"K_cache_1"}))
    assert json.loads(shown) == json.loads(graph_format.encode_groups(graph_file.groups, without_history={1}))


def test_every_type_and_every_fault_is_named() -> None:
    assert f"`{' '.join(NUMPY_DTYPES)}`" in PAGE
    for fault in Fault:
        assert f"| `{fault.name.lower()}` |" in PAGE


def test_the_figures_are_the_codes() -> None:
    pi5 = TIMINGS["pi5"]
    defaults = VirtualCardSettings()
    for words in (
        f"room + {thermal.IDLE_RISE_C:g} °C at rest, room + {thermal.FULL_RISE_C:g} °C at full load",
        f"e^(−t / {thermal.TIME_CONSTANT_S:g} s)",
        f"±{thermal.NOISE_C:g} °C",
        f"| {1e-6 / pi5.bus_s_per_byte:g} MB/s |",
        f"| {1e-6 / pi5.load_s_per_byte:g} MB/s (",
        f"{pi5.execute_s * 1000:g} ms per step",
        f"readings show {HOT_C:g} °C",
        f"{SLOW_FACTOR:g} times as long",
        f"`{arena.BASE_ADDRESS:#x}`",
        f"({defaults.memory_mib}) MiB",
        f"`HEARTH_VIRTUAL_CARD__AMBIENT_C` ({defaults.ambient_c:g})",
        f"opset {graph_format.MIN_OPSET} or later",
    ):
        assert words in PAGE, words
