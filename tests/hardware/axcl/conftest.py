from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hardware.axcl.card import AxclCard
from tests import axclsim

OpenCard = Callable[..., AxclCard]
SIM = ("devices", "memory_mib", "mode", "quirks", "timing", "sdk", "has_driver", "is_dirty", "torn")


@pytest.fixture
def open_card(axcl_library: Path, tmp_path: Path) -> Iterator[OpenCard]:
    """``open_card(mode=…, quirks=…, zero=…)``: the card over a simulated SDK that is told so.

    The SDK is told at the first call; later ones open another card of the same.
    """
    with ExitStack() as stack:
        opened: list[AxclCard] = []

        def open_one(library: Path = axcl_library, **options: Any) -> AxclCard:
            told = {name: options.pop(name) for name in SIM if name in options}
            if not opened:
                stack.enter_context(axclsim.simulated(axclsim.strict(tmp_path, **told)))
            memory_mib = told.get("memory_mib", 7040)
            opened.append(axclsim.open_card(library, tmp_path, memory_mib=memory_mib, **options))
            return stack.enter_context(opened[-1])

        yield open_one


@pytest.fixture
def card(open_card: OpenCard) -> AxclCard:
    return open_card(memory_mib=64)
