"""What the simulated SDK is told: one JSON object in the environment, read by its library and its tools.

Processes that name the same ``state`` directory see the same devices.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

VARIABLE = "AXCLSIM"

MOST_DEVICES = 256
"""``AXCL_MAX_DEVICE_COUNT`` of the vendor's header."""


class Mode(StrEnum):
    """What becomes of a call that a real runtime would not be right with."""

    PLAIN = "plain"
    """An error, but a buffer larger than its tensor will do, as the vendor's own Python package has it."""
    STRICT = "strict"
    """An error, also for a buffer that has not exactly its tensor's size."""
    SILENT = "silent"
    """Success, and nothing was done."""


class Quirk(StrEnum):
    """What SDKs and cards were reported to do, or could do."""

    ROW_IGNORED = "row_ignored"
    """An output that lies within a bound input is not written."""
    GROUP_SHARES_IO_STALE = "group_shares_io_stale"
    """An IO handle serves the shape group it executed first; others leave their outputs as they were."""
    OFFSET_BIND_STALE = "offset_bind_stale"
    """A tensor bound within an allocation, not at its beginning, is neither read nor written there."""
    SMALL_CHUNK_STALE = "small_chunk_stale"
    """Groups of fewer than 64 tokens, yet more than one, never write ``output``."""
    OOM_AS_070C = "oom_as_070c"
    """A full memory shows as a failed execution, as SDKs have been seen to tell it."""
    SECOND_ENGINEINIT_FAILS = "second_engineinit_fails"
    ONNX_AFTER_LLM_DROPS = "onnx_after_llm_drops"
    """Loading a network that is no language model's after one that is takes the device off the bus."""
    FREE_HANGS_WHEN_DEAD = "free_hangs_when_dead"
    STREAM_STALE = "stream_stale"
    """Executions on a stream succeed and leave their outputs as they were."""
    CMM_NOT_RETURNED = "cmm_not_returned"
    """What was unloaded or freed stays taken until the device is booted anew."""


@dataclass(frozen=True, slots=True)
class SimOptions:
    """``sdk``: what versions show. ``has_driver``: whether the kernel's module is there. ``is_dirty``: fresh
    memory holds what nobody should compute with. ``call_s``: what one copy costs beside its bytes.
    """

    state: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / f"axclsim-{os.getuid()}")
    devices: int = 1
    memory_mib: int = 7040
    mode: Mode = Mode.PLAIN
    quirks: frozenset[Quirk] = frozenset()
    timing: str = "none"
    call_s: float = 0.0
    threads: int = 1
    ambient_c: float = 24.0
    sdk: str = "V3.10.2_20251215140224"
    has_driver: bool = True
    is_dirty: bool = True
    torn: bool = False

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib << 20

    def encode(self) -> str:
        """The value of the variable that says this."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps({**values, "state": str(self.state), "quirks": sorted(self.quirks)})


def device_id(index: int) -> int:
    """What AXCL calls the device: the number of its PCIe bus. The only slot of a Raspberry Pi 5 is bus 1."""
    return index + 1


def bus_id(index: int) -> str:
    """Where the device is on the bus, as the vendor's tools write it."""
    return f"0001:{device_id(index):02X}:00.0"


def read_options(environment: Mapping[str, str] = os.environ) -> SimOptions:
    """Raises ValueError when the variable does not say what can be meant."""
    text = environment.get(VARIABLE) or "{}"
    try:
        values: dict[str, Any] = json.loads(text)
        if "state" in values:
            values["state"] = Path(values["state"])
        values["mode"] = Mode(values.get("mode", Mode.PLAIN))
        values["quirks"] = frozenset(map(Quirk, values.get("quirks", ())))
        options = SimOptions(**values)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{VARIABLE}={text} cannot be understood: {error}") from None
    if not 0 <= options.devices <= MOST_DEVICES:
        raise ValueError(f"{VARIABLE}: devices must be 0 to {MOST_DEVICES}, not {options.devices}")
    return options
