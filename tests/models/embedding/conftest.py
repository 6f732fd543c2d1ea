"""Packages, and the ways from one to a loaded model and from that to vectors."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.card import Card
from models.catalog import describe
from models.embedding.engine import EmbeddingEngine
from models.load import loading
from tasks.events import Embedded, Event, Finished
from tasks.jobs import EmbedJob, JobClass, Submission, Text, new_job_id
from tests.golden.embedding import ANSWERS, write_package
from tests.models.cards import AnyCard, Scripted, result

Load = Callable[..., EmbeddingEngine]


@pytest.fixture(scope="session")
def answers() -> dict[str, Any]:
    """What transformers says."""
    told: dict[str, Any] = json.loads(ANSWERS.read_text(encoding="utf-8"))
    return told


@pytest.fixture
def load(card: AnyCard, tmp_path: Path) -> Iterator[Load]:
    """``load(pooling=…)``: the golden encoder as such a package, on the card."""
    loaded: list[EmbeddingEngine] = []

    def made(manifest: str = "", **package: Any) -> EmbeddingEngine:
        directory = write_package(tmp_path / f"tiny-{len(loaded)}", **package)
        if manifest:
            (directory / "hearth.toml").write_text(manifest, encoding="utf-8")
        engine = on_card(card, directory, tmp_path / "data")
        loaded.append(engine)
        return engine

    yield made
    for engine in loaded:
        engine.close()


def on_card(card: Card, directory: Path, data_dir: Path) -> EmbeddingEngine:
    """A package in ``directory``, loaded."""
    model = describe(directory, data_dir)
    assert model.problem is None, model.problem
    engine = result(loading(card, model, data_dir=data_dir))
    assert isinstance(engine, EmbeddingEngine)
    return engine


def job(*inputs: Text, **options: Any) -> EmbedJob:
    return EmbedJob(Submission(new_job_id(), "tests", JobClass.CHAT, 0), "tiny", inputs, **options)


def told(engine: EmbeddingEngine, wanted: EmbedJob, emitted: Sequence[Embedded] = ()) -> list[Event]:
    return list(engine.embed(wanted, emitted, Scripted()))


def floats(event: Embedded) -> NDArray[np.float32]:
    data = b64decode(event.vector)
    return np.array(struct.unpack(f"<{len(data) // 4}f", data), np.float32)


def vectors(engine: EmbeddingEngine, *inputs: Text, **options: Any) -> NDArray[np.float32]:
    """float32[inputs, dimensions]"""
    *made, end = told(engine, job(*inputs, **options))
    assert isinstance(end, Finished), end
    return np.stack([floats(event) for event in made if isinstance(event, Embedded)])
