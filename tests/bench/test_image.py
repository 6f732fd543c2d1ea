"""The picture benchmark's own pieces; the whole of it runs for minutes and is no test."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.image import MODEL, SIZE, STEPS, _draw_serially, _returned
from bench.synthetic_pictures import NOTHING, PI5, SD15_PI5, write_package
from config.groups import VirtualCardSettings
from hardware.virtual.card import VirtualCard
from hardware.virtual.format import read_groups
from models.catalog import describe
from models.load import loading
from tasks.board import PictureSize


@pytest.mark.parametrize(
    ("name", "wanted_ms"),
    [
        ("text_encoder", SD15_PI5.text_ms),
        ("unet", SD15_PI5.unet_ms),
        ("vae_decoder", SD15_PI5.decoder_ms),
    ],
)
def test_a_call_takes_as_long_as_the_logs_say_transfers_included(
    tmp_path: Path, name: str, wanted_ms: float
) -> None:
    file = read_groups(write_package(tmp_path / MODEL, SD15_PI5, SIZE) / f"{name}.axmodel")
    (group,) = file.groups
    moved = sum(spec.size_bytes for spec in (*group.inputs, *group.outputs))
    modelled_ms = file.step_ms[0] + (PI5.execute_s + moved * PI5.bus_s_per_byte) * 1000
    assert modelled_ms == pytest.approx(wanted_ms)


def test_the_ceiling_is_the_cards_own_time() -> None:
    assert 1000 / SD15_PI5.picture_ms(STEPS) == pytest.approx(0.3763, abs=1e-4)


def test_the_synthetic_package_is_drawn_with_like_any_other(tmp_path: Path) -> None:
    model = describe(write_package(tmp_path / MODEL, NOTHING, 64))
    assert model.problem is None
    assert model.pictures is not None
    assert model.pictures.sizes == (PictureSize(64, 64),)
    with VirtualCard(tmp_path / "card", VirtualCardSettings()) as card:
        engine = _returned(loading(card, model, None, data_dir=tmp_path))
        _draw_serially(engine, 1, size=64)
        assert card.counters.executes == 1 + STEPS + 1
    assert len(list((tmp_path / "artifacts").rglob("*.png"))) == 1
