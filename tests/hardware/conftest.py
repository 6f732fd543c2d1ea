from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from config.groups import VirtualCardSettings
from hardware.virtual.card import VirtualCard
from tests.hardware.clock import FakeClock

OpenCard = Callable[..., VirtualCard]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "card"


@pytest.fixture
def open_card(state_dir: Path) -> Iterator[OpenCard]:
    """Opens virtual cards over one state directory and closes them in the end."""
    with ExitStack() as stack:

        def open_one(*, clock: FakeClock | None = None, **options: Any) -> VirtualCard:
            return stack.enter_context(VirtualCard(state_dir, VirtualCardSettings(**options), clock=clock))

        yield open_one


@pytest.fixture
def card(open_card: OpenCard) -> VirtualCard:
    return open_card(memory_mib=64)
