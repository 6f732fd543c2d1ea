"""The thermal settings as they are now: as configured, and what an operator changed since."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from config.groups import ThermalSettings

log = logging.getLogger("hearth.tasks.thresholds")

FIXED = frozenset({"poll_s"})
"""What only a restart can change: the monitor's beat is set when it starts."""
NAMES = tuple(name for name in ThermalSettings.model_fields if name not in FIXED)


def changes(stored: bytes | str | None) -> dict[str, Any]:
    """What an operator changed, by name."""
    found: dict[str, Any] = json.loads(stored) if stored is not None else {}
    return found


def effective(configured: ThermalSettings, stored: bytes | str | None) -> ThermalSettings:
    """The thresholds in force.

    Changes that no longer fit the configuration (it was changed after them) are ignored as a whole.
    """
    try:
        return ThermalSettings.model_validate({**configured.model_dump(), **changes(stored)})
    except ValidationError as error:
        log.error("the changed thresholds do not fit the configured ones and are ignored: %s", error)
        return configured


def changed(
    configured: ThermalSettings, stored: bytes | str | None, patch: Mapping[str, Any]
) -> tuple[ThermalSettings, bytes | None]:
    """The thresholds after ``patch`` and what is to be stored; None of a name takes the change back.

    Raises:
        pydantic.ValidationError: a value is out of range, or the whole is out of order.
    """
    merged = {**changes(stored), **patch}
    kept = {name: value for name, value in merged.items() if value is not None}
    result = ThermalSettings.model_validate({**configured.model_dump(), **kept})
    return result, json.dumps(kept).encode() if kept else None
