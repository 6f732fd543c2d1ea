"""What makes a directory an embedding package, and why one cannot be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.catalog import describe
from tasks.board import Embedding, Model
from tests.golden.embedding import CONTEXT, HIDDEN, write_package
from tests.golden.llm import QWEN3
from tests.golden.llm import write_package as write_chat

GRAPH = "tiny-embed_u16_npu3.axmodel"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return write_package(tmp_path / "bge-small", prompts=True, shorter=(16, 8))


def test_a_package_is_told_with_what_it_makes(place: Path) -> None:
    model = describe(place)
    assert (model.id, model.kind, model.problem) == ("bge-small", "embed", None)
    assert (model.context, model.family) == (CONTEXT, "bert")
    assert model.embedding == Embedding(HIDDEN, (8, 16), False, ("query", "document"))
    assert model.needs_bytes is not None
    assert model.needs_bytes >= model.size_bytes > 0


def test_a_longest_text_that_is_told_counts(place: Path) -> None:
    (place / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    assert describe(place).context == 16


def test_any_shorter_vector_where_the_package_says_so(place: Path) -> None:
    config = json.loads((place / "config.json").read_text())
    del config["matryoshka_dimensions"]
    (place / "config.json").write_text(json.dumps({**config, "is_matryoshka": True}))
    told = describe(place).embedding
    assert told is not None
    assert told.allows(5)
    assert told.allows(HIDDEN)
    assert not told.allows(HIDDEN + 1)


def test_the_owner_may_say_what_the_files_do_not(place: Path) -> None:
    shutil.rmtree(place / "1_Pooling")
    (place / "hearth.toml").write_text('[embedding]\npooling = "mean"\ndimensions = [4]')
    model = describe(place)
    assert model.problem is None
    assert model.embedding == Embedding(HIDDEN, (4,), False, ("query", "document"))


def _without(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).unlink()


def _with(name: str, text: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("tokenizer.json"), "no tokenizer.json in it: put"),
        (_with("tokenizer.json", "{}"), "tokenizer.json cannot be read"),
        (lambda place: shutil.rmtree(place / "1_Pooling"), "nothing says how its rows become one vector"),
        (
            _with("1_Pooling/config.json", '{"pooling_mode_weightedmean_tokens": true}'),
            "by weightedmean, and",
        ),
        (
            _with(
                "1_Pooling/config.json", '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}'
            ),
            "by cls and max, and",
        ),
        (_with("modules.json", '[{"type": "sentence_transformers.models.Dense"}]'), "has a Dense layer"),
        (_with("hearth.toml", '[embedding]\npooling = "sum"'), "embedding.pooling must be one of cls, mean"),
        (_with("hearth.toml", "[embedding]\ndimensions = [0]"), "embedding.dimensions must be a list"),
        (_with("hearth.toml", "[embedding]\nwidth = 1"), "embedding.width is unknown"),
        (_with("hearth.toml", "[embedding]\ndimensions = [64]"), "vectors of 64 dimensions, and its graph"),
        (_with(GRAPH, "compiled"), "cannot run on the virtual card"),
        (lambda place: shutil.copy(place / GRAPH, place / "two.axmodel"), "holds 2 graphs"),
        (_with(GRAPH, "version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
    ],
)
def test_why_it_cannot_be_used(place: Path, change: Callable[[Path], object], reason: str) -> None:
    change(place)
    model = describe(place)
    assert model.kind == "embed"
    assert model.problem is not None
    assert reason in model.problem


def test_a_bare_download_is_known_by_its_name(tmp_path: Path) -> None:
    place = tmp_path / "bge-small-en-v1.5"
    place.mkdir()
    (place / "bge-small-en-v1.5_u16_npu3.axmodel").write_bytes(b"compiled")
    model = describe(place)
    assert model.kind == "embed"
    assert "put tokenizer.json, tokenizer_config.json, modules.json" in (model.problem or "")


def test_for_a_real_card_the_files_beside_the_graph_are_believed(place: Path) -> None:
    (place / GRAPH).write_bytes(b"compiled" * 1000)
    model = describe(place, for_real=True)
    assert (model.problem, model.context) == (None, CONTEXT)
    assert model.embedding is not None
    assert model.embedding.dimensions == HIDDEN


def _layered(tmp_path: Path) -> Path:
    place = tmp_path / "Qwen3-Embedding-0.6B"
    write_chat(QWEN3, place)
    return place


def test_layers_that_make_embeddings_are_told_apart_and_why_they_are_not_served(tmp_path: Path) -> None:
    place = _layered(tmp_path)
    assert describe(place).kind == "chat", "with a last graph it answers, whatever it is called"
    next(place.glob("*_post.axmodel")).unlink()
    model: Model = describe(place)
    assert model.kind == "embed"
    assert "made of a language model's layers" in (model.problem or "")
