"""Packages, exported once for all tests of this room, and cards to put them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from config.settings import VirtualCardSettings
from models.catalog import describe
from models.load import LoadedModel, load
from tasks.board import Model
from tests.golden.llm import MODELS, write_package
from tests.models.cards import OtherCard


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The golden models as packages, by name."""
    place = tmp_path_factory.mktemp("packages")
    for model in MODELS:
        write_package(model, place / model.name)
    return {model.name: place / model.name for model in MODELS}


@pytest.fixture
def open_card(tmp_path: Path) -> Iterator[Callable[..., OtherCard]]:
    """``open_card(torn=True)`` and the like: a card of its own for each call, closed at the end."""
    cards: list[OtherCard] = []

    def opened(**options: Any) -> OtherCard:
        cards.append(OtherCard(tmp_path / f"card{len(cards)}", VirtualCardSettings(**options)))
        return cards[-1]

    yield opened
    for card in cards:
        card.close()


@pytest.fixture
def card(open_card: Callable[..., OtherCard]) -> OtherCard:
    return open_card()


@pytest.fixture
def model(packages: Mapping[str, Path]) -> Model:
    """The smallest golden model, as the catalog describes it."""
    return describe(packages["qwen3"])


@pytest.fixture
def engine(card: OtherCard, model: Model) -> Iterator[LoadedModel]:
    loaded = load(card, model, lambda done, total: None)
    yield loaded
    loaded.close()
