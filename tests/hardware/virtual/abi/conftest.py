from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.axclsim import simulated, strict
from tests.hardware.virtual.abi.raw import Raw


@pytest.fixture
def opened(axcl_library: Path, tmp_path: Path) -> Iterator[Callable[..., Raw]]:
    """``opened(mode=…, quirks=…)``: the library, told so, initialised and with a device for this thread."""
    with ExitStack() as stack:

        def open_one(**options: Any) -> Raw:
            stack.enter_context(simulated(strict(tmp_path, **options)))
            raw = Raw(axcl_library)
            raw.open()
            return raw

        yield open_one


@pytest.fixture
def raw(opened: Callable[..., Raw]) -> Raw:
    return opened()
