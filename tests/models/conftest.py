"""Packages, exported once for all tests of this room, and cards to put them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from config.groups import AxclSettings, VirtualCardSettings
from models.catalog import describe
from models.load import LoadedModel, load
from tasks.board import Model
from tests.axclsim import info, simulated, strict
from tests.golden.llm import MODELS, write_package
from tests.models.cards import AnyCard, OtherAxclCard, OtherCard


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The golden models as packages, by name."""
    place = tmp_path_factory.mktemp("packages")
    for model in MODELS:
        write_package(model, place / model.name)
    return {model.name: place / model.name for model in MODELS}


@pytest.fixture(params=["virtual", "axcl"])
def kind(request: pytest.FixtureRequest) -> str:
    """What the cards of a test are: the virtual card, or the binding of the vendor's library over one."""
    return str(request.param)


@pytest.fixture
def open_card(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., AnyCard]]:
    """``open_card(torn=True)`` and the like: a card of its own for each call, closed at the end."""
    cards: list[AnyCard] = []
    with ExitStack() as stack:

        def virtual(**options: Any) -> OtherCard:
            return OtherCard(tmp_path / f"card{len(cards)}", VirtualCardSettings(**options))

        def axcl(*, memory_mib: int = 7040, **options: Any) -> OtherAxclCard:
            # One process opens the runtime once: what a second card is told holds for the first as well.
            place = tmp_path / f"card{len(cards)}"
            if not cards:
                devices = strict(tmp_path, devices=8, memory_mib=memory_mib, **options)
                stack.enter_context(simulated(devices))
            settings = AxclSettings(library=library, wait_s=0)
            return OtherAxclCard(place, settings, info(len(cards), memory_mib))

        if kind == "axcl":
            library = request.getfixturevalue("axcl_library")
            # The rows of tiny models are no multiple of what a real card wants.
            monkeypatch.setattr("models.llm.decode._ALIGNED", 2)

        def opened(**options: Any) -> AnyCard:
            cards.append(axcl(**options) if kind == "axcl" else virtual(**options))
            return cards[-1]

        yield opened
        for card in cards:
            card.close()


@pytest.fixture
def card(open_card: Callable[..., AnyCard]) -> AnyCard:
    return open_card()


@pytest.fixture
def model(packages: Mapping[str, Path]) -> Model:
    """The smallest golden model, as the catalog describes it."""
    return describe(packages["qwen3"])


@pytest.fixture
def engine(card: AnyCard, model: Model) -> Iterator[LoadedModel]:
    loaded = load(card, model, lambda done, total: None)
    yield loaded
    loaded.close()
