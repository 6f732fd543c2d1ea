"""Functions of the simulated runtime: itself, its devices and contexts."""

from __future__ import annotations

from hardware.virtual.abi.codes import (
    ILLEGAL_PARAM,
    NO_ACTIVE_DEVICE,
    NO_CONNECT,
    OPEN,
    REBOOT,
    Fail,
    Misuse,
    Part,
)
from hardware.virtual.abi.opened import Opened, does
from hardware.virtual.abi.structs import Counters, DeviceList, DeviceProperties
from hardware.virtual.state import CardState


class Devices(Opened):
    """From axclInit to the context of a thread."""

    @does("axclInit")
    def init(self, config: bytes | None) -> None:
        if not self.options.has_driver:
            raise Fail(Part.DEVICE, OPEN, "/dev/axcl_host is missing")
        self._is_ready = True

    @does("axclFinalize")
    def finalize(self) -> None:
        self._check_ready()
        for device in self._devices.values():
            device.hang_if_dead()
            device.close()
        self._models.clear()
        self._infos.clear()
        self._ios.clear()
        self._contexts.clear()
        self._defaults.clear()
        self._devices.clear()
        self._is_ready = self._has_engine = False
        self.is_over = True

    @does("axclSetLogLevel")
    def set_log_level(self, level: int) -> None:
        if not 0 <= level <= 6:
            raise Misuse(Part.DEVICE, ILLEGAL_PARAM, f"log level {level}")

    @does("axclrtGetVersion")
    def version(self) -> tuple[int, int, int]:
        major, minor, patch = self.options.sdk.removeprefix("V").partition("_")[0].split(".")
        return int(major), int(minor), int(patch)

    @does("axclrtGetFullVersion")
    def full_version(self) -> str:
        return self.options.sdk

    @does("axclrtGetSocName")
    def soc_name(self) -> str:
        return "AX650N"

    @does("axclrtGetDeviceList")
    def device_list(self) -> DeviceList:
        present = self._present()
        if not present:
            raise Fail(Part.DEVICE, NO_CONNECT, "no device connected")
        found = DeviceList(num=len(present))
        found.devices[: len(present)] = present
        return found

    @does("axclrtGetDeviceCount")
    def device_count(self) -> int:
        return len(self._present())

    @does("axclrtSetDevice")
    def set_device(self, number: int) -> None:
        self._bound.context = self._default_context(number)

    @does("axclrtGetDevice")
    def get_device(self) -> int:
        self._check_ready()
        context = getattr(self._bound, "context", None)
        if context not in self._contexts:
            raise Misuse(Part.DEVICE, NO_ACTIVE_DEVICE, "the thread has no device")
        return self._contexts[context].id

    @does("axclrtResetDevice")
    def reset_device(self, number: int) -> None:
        device = self._device(number)
        device.hang_if_dead()
        self._drop_device(device)

    @does("axclrtRebootDevice")
    def reboot_device(self, number: int) -> None:
        self._check_ready()
        state = CardState.open(self.options.state, self._index(number))
        try:
            if not state.reboot():
                raise Fail(Part.DEVICE, REBOOT, f"device {number} does not boot")
        finally:
            state.close()

    @does("axclrtGetDeviceProperties")
    def device_properties(self, number: int) -> DeviceProperties:
        # As the vendor's does, this leaves the thread at the default context of that device.
        self._bound.context = self._default_context(number)
        device = self._here()
        device.tell()
        memory = device.state.memory(self.options.memory_bytes)
        celsius = device.state.temperature_c(self.options.ambient_c)
        return DeviceProperties(
            swVersion=f"Ax_Version {self.options.sdk}\n".encode(),
            pciDomain=1,
            pciBusID=number,
            temperature=round(celsius * 1000),
            totalCmmSize=memory.total_bytes >> 10,
            freeCmmSize=memory.free_bytes >> 10,
            npuLoading=round(device.state.npu_load() * 10_000),
        )

    @does("axclrtCreateContext")
    def create_context(self, number: int) -> int:
        handle = self._open_context(number)
        self._bound.context = handle
        return handle

    @does("axclrtDestroyContext")
    def destroy_context(self, context: int | None) -> None:
        self._check_ready()
        if self._contexts.pop(context or 0, None) is None:
            raise Misuse(Part.CONTEXT, ILLEGAL_PARAM, "there is no such context")

    @does("axclrtSetCurrentContext")
    def set_context(self, context: int | None) -> None:
        self._check_ready()
        if context not in self._contexts:
            raise Misuse(Part.CONTEXT, ILLEGAL_PARAM, "there is no such context")
        self._bound.context = context

    @does("axclrtGetCurrentContext")
    def get_context(self) -> int:
        self._here()
        bound: int = self._bound.context
        return bound

    @does("axclrtGetDefaultContext")
    def default_context(self, number: int) -> int:
        return self._default_context(number)

    @does("hearth_axclsim_counters")
    def counters(self, number: int) -> Counters:
        counted = self._device(number).counters
        return Counters(*(getattr(counted, name) for name in counted.__slots__))
