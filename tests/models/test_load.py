"""Loading: progress, what goes wrong half-way, and that nothing is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hardware.errors import GraphRejected, OutOfCardMemory
from models.load import load, loading
from tasks.board import Model
from tasks.errors import LoadFailed, ModelUnusable
from tests.golden.llm import QWEN3
from tests.models.cards import OtherCard


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture
def copied(packages: Mapping[str, Path], tmp_path: Path) -> Path:
    """A package that a test may damage."""
    return Path(shutil.copytree(packages["qwen3"], tmp_path / "copied"))


def test_progress_counts_files_and_the_size_is_what_the_card_lost(card: OtherCard, model: Model) -> None:
    free_bytes = card.memory().free_bytes
    seen: list[tuple[int, int]] = []
    loaded = load(card, model, lambda done, total: seen.append((done, total)))
    files = QWEN3.layers + 1
    assert seen == [(done, files) for done in range(1, files + 1)]
    assert loaded.context == QWEN3.kv_length
    assert loaded.size_bytes == free_bytes - card.memory().free_bytes > 0
    loaded.close()
    loaded.close()
    assert card.memory().free_bytes == free_bytes


@pytest.mark.parametrize("files", range(4))
def test_a_load_that_is_left_half_way_gives_everything_back(
    card: OtherCard, model: Model, tmp_path: Path, files: int
) -> None:
    free_bytes = card.memory().free_bytes
    steps = loading(card, model, data_dir=tmp_path)
    for _ in range(files):
        next(steps)
    steps.close()
    assert card.memory().free_bytes == free_bytes


def test_an_error_in_the_progress_callback_gives_everything_back(card: OtherCard, model: Model) -> None:
    free_bytes = card.memory().free_bytes

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(card, model, stop)
    assert card.memory().free_bytes == free_bytes


@pytest.mark.parametrize("room_bytes", [100_000, 300_000, 480_000])
def test_a_card_that_is_full_says_so_itself_so_that_room_can_be_made(
    card: OtherCard, model: Model, room_bytes: int
) -> None:
    card.allocate(card.memory().free_bytes - room_bytes)
    free_bytes = card.memory().free_bytes
    with pytest.raises(OutOfCardMemory):
        load(card, model, ignore)
    assert card.memory().free_bytes == free_bytes


def test_a_damaged_graph_is_refused_by_the_card_and_nothing_is_kept(
    card: OtherCard, model: Model, copied: Path
) -> None:
    free_bytes = card.memory().free_bytes
    post = next(copied.glob("*_post.axmodel"))
    post.write_bytes(post.read_bytes()[:-20_000])
    with pytest.raises(GraphRejected):
        load(card, replace(model, directory=str(copied)), ignore)
    assert card.memory().free_bytes == free_bytes


def test_a_model_that_the_catalog_calls_unusable_is_not_tried(card: OtherCard, model: Model) -> None:
    with pytest.raises(ModelUnusable, match="layer 3 is missing"):
        load(card, replace(model, problem="layer 3 is missing"), ignore)


def test_files_that_vanished_since_the_scan_are_named(card: OtherCard, model: Model, copied: Path) -> None:
    next(copied.glob("*_l1_together.axmodel")).unlink()
    with pytest.raises(LoadFailed, match="1 of 2 layer files are missing"):
        load(card, replace(model, directory=str(copied)), ignore)


def test_a_tokenizer_without_chat_template_is_named_before_anything_is_loaded(
    card: OtherCard, model: Model, copied: Path
) -> None:
    before = card.counters.copy()
    config = copied / "qwen3_tokenizer" / "tokenizer_config.json"
    config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")
    with pytest.raises(LoadFailed, match="no chat template"):
        load(card, replace(model, directory=str(copied)), ignore)
    assert card.counters == before


def test_a_tokenizer_that_is_broken_is_named(card: OtherCard, model: Model, copied: Path) -> None:
    (copied / "qwen3_tokenizer" / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    with pytest.raises(LoadFailed, match="qwen3_tokenizer cannot be read"):
        load(card, replace(model, directory=str(copied)), ignore)


def test_a_tokenizer_of_another_model_is_told(card: OtherCard, model: Model, copied: Path) -> None:
    free_bytes = card.memory().free_bytes
    embedding = copied / "model.embed_tokens.weight.bfloat16.bin"
    tokenizer = copied / "qwen3_tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"ee": 259', '"ee": 5259'), encoding="utf-8")
    with pytest.raises(LoadFailed, match="different models"):
        load(card, replace(model, directory=str(copied)), ignore)
    assert card.memory().free_bytes == free_bytes
    assert embedding.is_file()
