"""What the simulated SDK is told comes back as it was said, or is refused with words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.virtual.abi.options import VARIABLE, Mode, Quirk, SimOptions, bus_id, device_id, read_options


def test_what_is_said_is_what_is_read(tmp_path: Path) -> None:
    options = SimOptions(
        tmp_path, devices=3, mode=Mode.STRICT, quirks=frozenset({Quirk.ROW_IGNORED}), timing="pi5", torn=True
    )
    assert read_options({VARIABLE: options.encode()}) == options
    assert read_options({}) == SimOptions()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"mode": "lax"}', '{"quirks": ["no"]}', '{"x": 1}', '{"devices": 257}']
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=VARIABLE):
        read_options({VARIABLE: text})


def test_a_device_is_called_by_its_bus() -> None:
    assert (device_id(0), bus_id(0)) == (1, "0001:01:00.0")
