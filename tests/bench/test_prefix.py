"""What the prefix benchmark compares, with a prompt short enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import prefix


def test_a_prompt_asked_again_runs_only_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "SYSTEM", 300)
    monkeypatch.setattr(prefix, "HISTORIES", range(0, 385, 128))
    monkeypatch.setattr(prefix, "KV_LENGTH", 511)
    monkeypatch.setattr(prefix, "WARM_UP", 3)
    assert prefix.main(["--json", "--rounds", "4", "--out", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    layers = prefix.ARCHITECTURE.layers
    assert set(figures["first_token_ms"]) == set(figures["executes"]) == {"row", "chunk", "off"}
    # Three chunks and the last graph; the shared 300 tokens, or 256 of them, are not computed again.
    assert figures["executes"]["off"] >= 3 * layers + 1
    assert figures["first_token_ms"]["row"] < figures["first_token_ms"]["off"]
    assert (tmp_path / "prefix.png").stat().st_size > 1000
