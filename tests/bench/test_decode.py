"""What the decode benchmark counts, on graphs small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import decode
from bench.synthetic import QWEN3_4B, Measures

SMALL = Measures(layers=3, hidden=64, kv_width=32, kv_length=40, vocab=500)
KEYS = {
    "h2d_bytes_per_token",
    "d2h_bytes_per_token",
    "d2d_bytes_per_token",
    "bus_calls_per_token",
    "executes_per_token",
    "host_ms_per_token",
    "tokens_per_s",
}


@pytest.fixture(params=["virtual", "axcl"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # The small rows are no multiple of what a real card wants.
    monkeypatch.setattr("models.llm.decode._ALIGNED", 2)
    return str(request.param)


def test_a_token_costs_a_hidden_row_a_mask_and_a_position_up_and_logits_down(kind: str) -> None:
    figures = decode.measure(SMALL, tokens=10, reference_tokens=2, kind=kind)
    assert set(figures) == {*KEYS, "reference", "copy", "tokens"}
    assert figures["h2d_bytes_per_token"] == 64 * 2 + 41 * 2 + 4
    assert figures["d2h_bytes_per_token"] == 500 * 2
    assert figures["d2d_bytes_per_token"] == 0
    assert figures["bus_calls_per_token"] == 4
    assert figures["executes_per_token"] == SMALL.layers + 1


def test_copied_rows_cost_two_copies_a_layer_and_nothing_else(kind: str) -> None:
    figures = decode.measure(SMALL, tokens=10, reference_tokens=2, kind=kind)["copy"]
    assert set(figures) == KEYS
    assert figures["d2d_bytes_per_token"] == SMALL.layers * 2 * 32 * 2
    assert figures["bus_calls_per_token"] == 4 + 2 * SMALL.layers


def test_the_stock_style_sends_the_whole_cache_for_every_layer(kind: str) -> None:
    figures = decode.measure(SMALL, tokens=10, reference_tokens=2, kind=kind)["reference"]
    assert set(figures) == KEYS
    layer = 2 * 40 * 32 * 2 + 41 * 2 + 64 * 2 + 4
    assert figures["h2d_bytes_per_token"] == SMALL.layers * layer + 64 * 2
    assert figures["bus_calls_per_token"] == SMALL.layers * 8 + 2
    assert figures["executes_per_token"] == SMALL.layers + 1


def test_the_command_prints_one_json_object_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "QWEN3_4B", SMALL)
    assert decode.main(["--json", "--tokens", "4", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["executes_per_token"] == 4
    assert (tmp_path / "decode.png").stat().st_size > 1000
    assert json.loads((tmp_path / "decode.json").read_text())["about"]["machine"]


def test_the_figures_of_a_real_interface_lie_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "QWEN3_4B", SMALL)
    arguments = ["--json", "--tokens", "40", "--card", "axcl", "--timing", "pi5", "--out", str(tmp_path)]
    assert decode.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {*KEYS, "reference", "copy", "tokens"}
    # 40 tokens of 4 executes of 0.46 ms, but for what earlier calls took too long: at most 6 ms in all.
    assert figures["tokens_per_s"] < 40 / (40 * 4 * 0.46e-3 - 0.006)
    assert (tmp_path / "decode-axcl-pi5.json").exists()


def test_the_geometry_is_that_of_qwen3_4b() -> None:
    assert Measures(layers=36, hidden=2560, kv_width=1024, kv_length=2559, vocab=151_936) == QWEN3_4B
