"""The structs of the AXCL runtime that functions write, as ctypes lays them out."""

from __future__ import annotations

from ctypes import Structure, c_char, c_double, c_int32, c_uint32, c_uint64


class DeviceList(Structure):
    _fields_ = (("num", c_uint32), ("devices", c_int32 * 256))


class IoDims(Structure):
    _fields_ = (("dimCount", c_int32), ("dims", c_int32 * 32))


class DeviceProperties(Structure):
    """Temperature in thousandths of a degree, memory in KiB, loads in hundredths of a percent."""

    _fields_ = (
        ("swVersion", c_char * 64),
        ("uid", c_uint64),
        ("pciDomain", c_uint32),
        ("pciBusID", c_uint32),
        ("pciDeviceID", c_uint32),
        ("temperature", c_int32),
        ("totalMemSize", c_uint32),
        ("freeMemSize", c_uint32),
        ("totalCmmSize", c_uint32),
        ("freeCmmSize", c_uint32),
        ("cpuLoading", c_uint32),
        ("npuLoading", c_uint32),
        ("reserved", c_uint32 * 32),
    )


class Counters(Structure):
    """``hardware.card.Counters``, for those who are not Python."""

    _fields_ = (
        *((name, c_uint64) for name in ("h2d_bytes", "d2h_bytes", "d2d_bytes")),
        *((name, c_uint64) for name in ("h2d_calls", "d2h_calls", "d2d_calls", "executes")),
        ("busy_s", c_double),
    )
