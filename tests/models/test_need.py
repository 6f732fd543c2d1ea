"""What a package needs on the card: estimated well enough, then measured, and remembered by its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings, read_settings
from models.catalog import describe, scan
from models.llm.geometry import DecodeGroup, Geometry, LayerGeometry, PostGeometry, PrefillGroup
from models.load import load
from models.need import NEEDS, Need, beside_graphs, estimate, need, remember_need
from tests.golden.llm import MODELS
from tests.models.cards import OtherCard

MIB = 1 << 20


def geometry(layers: int, hidden: int, kv_width: int, context: int, vocab: int) -> Geometry:
    ladder = tuple(PrefillGroup(history, 128, index) for index, history in enumerate((0, 512, 1024), 1))
    layer = LayerGeometry(hidden, kv_width, 1, (DecodeGroup(context, 0),), ladder)
    return Geometry((layer,) * layers, PostGeometry(hidden, vocab, "input", None))  # type: ignore[arg-type]


def test_qwen3_4b_is_estimated_as_it_was_seen_on_a_card() -> None:
    """5242 of 7040 MiB were gone with the vendor's runner (M5Stack's page of Qwen3-4B, w8a16)."""
    shape = geometry(36, 2560, 1024, 2559, 151936)
    assert 377_000_000 < beside_graphs(shape) < 390_000_000
    graphs = [107 * MIB] * 36 + [388 * MIB]  # 4.0 GB of 8-bit layers, and a post graph of 8-bit weights
    assert 4600 * MIB < estimate(graphs, beside_graphs(shape)) < 5242 * MIB


@given(st.lists(st.integers(0, 1 << 32), max_size=50), st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_an_estimate_never_falls_below_the_files_and_grows_with_them(
    files: list[int], beside: int, more: int
) -> None:
    assert estimate(files, beside) >= sum(files) + beside
    assert estimate([*files, more], beside) >= estimate(files, beside) + more


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_the_estimate_holds_what_a_load_takes(
    packages: Mapping[str, Path], card: OtherCard, name: str
) -> None:
    model = describe(packages[name])
    assert model.needs_basis == "estimated"
    assert model.needs_bytes is not None
    loaded = load(card, model, lambda done, total: None)
    assert loaded.size_bytes <= model.needs_bytes < 1.6 * loaded.size_bytes
    loaded.close()


@pytest.fixture
def settings(tmp_path: Path, packages: Mapping[str, Path]) -> Settings:
    shutil.copytree(packages["qwen3"], tmp_path / "models" / "tiny")
    return read_settings(data_dir=tmp_path, models_dir=tmp_path / "models", demo_models=False)


def test_what_a_load_took_is_told_from_then_on(settings: Settings, card: OtherCard) -> None:
    (model,) = scan(settings).models
    loaded = load(card, model, lambda done, total: None, data_dir=settings.data_dir)
    (again,) = scan(settings).models
    assert again == replace(model, needs_bytes=loaded.size_bytes, needs_basis="measured")
    loaded.close()


def test_a_changed_file_is_estimated_anew(settings: Settings, card: OtherCard) -> None:
    (model,) = scan(settings).models
    load(card, model, lambda done, total: None, data_dir=settings.data_dir).close()
    layer = next(settings.packages_dir.glob("tiny/*_l0*.axmodel"))
    os.utime(layer, ns=(1, 1))
    assert scan(settings).models[0].needs_basis == "estimated"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "a.axmodel"
    path.write_bytes(b"x" * 1000)
    return path


def test_a_measurement_counts_for_its_firmware(graph: Path, tmp_path: Path) -> None:
    memory = tmp_path / NEEDS
    remember_need([graph], "V3.6.5", 2000, memory)
    remember_need([graph], "V3.10.2", 3000, memory)
    assert need([graph], 0, memory, "V3.6.5") == Need(2000, is_measured=True)
    assert need([graph], 0, memory) == Need(3000, is_measured=True)
    assert need([graph], 7, memory, "V4") == Need(4103, is_measured=False)


@pytest.mark.parametrize("damage", ["", "[]", '{"x": 3}', "\x00", None])
def test_a_memory_that_cannot_be_read_is_no_memory(graph: Path, tmp_path: Path, damage: str | None) -> None:
    memory = tmp_path / NEEDS
    if damage is not None:
        memory.write_text(damage)
    assert need([graph], 0, memory) == Need(4096, is_measured=False)
    remember_need([graph], "V3", 4000, memory)
    assert need([graph], 0, memory) == Need(4000, is_measured=True)


def test_a_disk_that_refuses_costs_a_warning(graph: Path, caplog: pytest.LogCaptureFixture) -> None:
    remember_need([graph], "V3", 4000, Path("/proc/nowhere/needs.json"))
    assert "cannot remember" in caplog.text
