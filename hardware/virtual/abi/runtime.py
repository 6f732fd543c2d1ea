"""Functions of the simulated runtime: streams, models, and executing them; and all of it together."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from hardware.virtual.abi.codes import (
    BUSY,
    EXECUTE_FAIL,
    ILLEGAL_PARAM,
    NULL_POINTER,
    SYNC_TIMEOUT,
    UNSUPPORTED,
    Fail,
    Misuse,
    Part,
)
from hardware.virtual.abi.description import Description, at, index_of
from hardware.virtual.abi.devices import Devices
from hardware.virtual.abi.engine import Io, Model
from hardware.virtual.abi.memory import Memory
from hardware.virtual.abi.opened import Stream, does
from hardware.virtual.abi.options import Quirk
from hardware.virtual.state import Fault


class Engine(Description):
    """Models on the device, IO handles and executions."""

    @does("axclrtEngineInit")
    def engine_init(self, kind: int) -> None:
        self._here()
        if self._has_engine and Quirk.SECOND_ENGINEINIT_FAILS in self.options.quirks:
            raise Fail(Part.ENGINE, BUSY, "the engine is there already")
        if kind != 0:
            raise Misuse(Part.ENGINE, UNSUPPORTED, f"VNPU of kind {kind}")
        self._has_engine = True

    @does("axclrtEngineGetVNpuKind")
    def vnpu_kind(self) -> int:
        self._check_engine()
        return 0

    @does("axclrtEngineFinalize")
    def engine_finalize(self) -> None:
        self._check_engine()
        self._has_engine = False

    @does("axclrtEngineLoadFromFile")
    def load_file(self, path: bytes | None) -> int:
        self._check_engine()
        if path is None:
            raise Misuse(Part.ENGINE, NULL_POINTER, "no path")
        return self._load(Path(os.fsdecode(path)))

    @does("axclrtEngineLoadFromMem")
    def load_memory(self, address: int | None, size: int) -> int:
        self._check_engine()
        device = self._here()
        device.start_of(address or 0, size)
        path = self.options.state / f"from-memory-{os.getpid()}.axmodel"
        path.write_bytes(ctypes.string_at(device.pointer(address or 0), size))
        try:
            return self._load(path)
        finally:
            path.unlink()

    def _load(self, path: Path) -> int:
        device = self._here()
        device.begin()
        model = Model(device, path)
        if model.is_language_model:
            self._has_language_model.add(device.id)
        elif device.id in self._has_language_model and Quirk.ONNX_AFTER_LLM_DROPS in self.options.quirks:
            device.drop()
        number = next(self._ids)
        self._models[number] = model
        device.tell()
        return number

    @does("axclrtEngineUnload")
    def unload(self, model: int) -> None:
        gone = self._model(model)
        gone.device.hang_if_dead()
        gone.device.begin()
        gone.unload()
        del self._models[model]
        owned = self._engine_contexts.items()
        self._engine_contexts = {context: each for context, each in owned if each != model}
        self._infos = {handle: each for handle, each in self._infos.items() if each is not gone}
        self._ios = {handle: each for handle, each in self._ios.items() if each.model is not gone}

    @does("axclrtEngineGetModelCompilerVersion")
    def compiler_version(self, model: int) -> str:
        self._model(model)
        return "5.2 simulated"

    @does("axclrtEngineSetAffinity")
    def set_affinity(self, model: int, cores: int) -> None:
        self._model(model)
        if not 1 <= cores <= 7:
            raise Misuse(Part.ENGINE, ILLEGAL_PARAM, f"affinity {cores}")

    @does("axclrtEngineGetAffinity")
    def affinity(self, model: int) -> int:
        self._model(model)
        return 7

    @does("axclrtEngineGetUsage")
    def usage(self, path: bytes | None) -> tuple[int, int]:
        """As the vendor's: it loads the model to find out."""
        number = self.load_file(path)
        size_bytes = self._model(number).size_bytes
        self.unload(number)
        return 0, size_bytes

    @does("axclrtEngineGetUsageFromModelId")
    def usage_of(self, model: int) -> tuple[int, int]:
        return 0, self._model(model).size_bytes

    @does("axclrtEngineGetModelType")
    def model_type(self, path: bytes | None) -> int:
        number = self.load_file(path)
        self.unload(number)
        return 2

    @does("axclrtEngineGetModelTypeFromModelId")
    def model_type_of(self, model: int) -> int:
        self._model(model)
        return 2

    @does("axclrtEngineCreateIO")
    def create_io(self, info: int | None) -> int:
        handle = next(self._handles)
        self._ios[handle] = Io(self._info(info))
        return handle

    @does("axclrtEngineDestroyIO")
    def destroy_io(self, io: int | None) -> None:
        self._io(io)
        del self._ios[io or 0]

    @does("axclrtEngineSetInputBufferByIndex")
    def bind_input(self, io: int | None, index: int, address: int | None, size: int) -> None:
        found = self._io(io)
        found.place(found.inputs, index, address or 0, size)

    @does("axclrtEngineSetOutputBufferByIndex")
    def bind_output(self, io: int | None, index: int, address: int | None, size: int) -> None:
        found = self._io(io)
        found.place(found.outputs, index, address or 0, size)

    @does("axclrtEngineSetInputBufferByName")
    def bind_input_named(self, io: int | None, name: bytes | None, address: int | None, size: int) -> None:
        index = index_of(self._io(io).model.inputs(0), name)
        self.bind_input(io, index, address, size)

    @does("axclrtEngineSetOutputBufferByName")
    def bind_output_named(self, io: int | None, name: bytes | None, address: int | None, size: int) -> None:
        index = index_of(self._io(io).model.outputs(0), name)
        self.bind_output(io, index, address, size)

    @does("axclrtEngineGetInputBufferByIndex")
    def bound_input(self, io: int | None, index: int) -> tuple[int, int]:
        return at(self._io(io).inputs, index) or (0, 0)

    @does("axclrtEngineGetOutputBufferByIndex")
    def bound_output(self, io: int | None, index: int) -> tuple[int, int]:
        return at(self._io(io).outputs, index) or (0, 0)

    @does("axclrtEngineSetDynamicBatchSize")
    def set_batch(self, io: int | None, size: int) -> None:
        self._io(io)
        if size != 1:
            raise Misuse(Part.ENGINE, UNSUPPORTED, f"a batch of {size}")

    @does("axclrtEngineCreateContext")
    def create_engine_context(self, model: int) -> int:
        self._model(model)
        number = next(self._ids)
        self._engine_contexts[number] = model
        return number

    @does("axclrtEngineExecute")
    def execute(self, model: int, context: int, group: int, io: int | None) -> None:
        self._run(self._ready_io(model, context, io), group)

    def _run(self, io: Io, group: int) -> None:
        device = io.model.device
        try:
            orders = device.begin()
        except Fail as error:
            raise Fail(Part.ENGINE, EXECUTE_FAIL, str(error)) from None
        if orders.fault is Fault.HANG:
            device.hang()
        io.execute(group)
        device.after_execute()

    def _ready_io(self, model: int, context: int, io: int | None) -> Io:
        self._here()
        found = self._io(io)
        if self._engine_contexts.get(context) != model or found.model is not self._model(model):
            raise Misuse(Part.ENGINE, ILLEGAL_PARAM, "model, context and IO do not belong together")
        return found


class Streams(Engine):
    """Executions that are handed over first and waited for later."""

    @does("axclrtCreateStream")
    def create_stream(self) -> int:
        handle = next(self._handles)
        self._streams[handle] = Stream(self._here())
        return handle

    @does("axclrtDestroyStream")
    def destroy_stream(self, stream: int | None) -> None:
        self._drain(self._stream(stream), None)
        del self._streams[stream or 0]

    @does("axclrtDestroyStreamForce")
    def destroy_stream_force(self, stream: int | None) -> None:
        self._stream(stream)
        del self._streams[stream or 0]

    @does("axclrtSynchronizeStream")
    def synchronize(self, stream: int | None) -> None:
        self._drain(self._stream(stream), None)

    @does("axclrtSynchronizeStreamWithTimeout")
    def synchronize_for(self, stream: int | None, milliseconds: int) -> None:
        self._drain(self._stream(stream), milliseconds / 1000 if milliseconds >= 0 else None)

    def _drain(self, stream: Stream, timeout_s: float | None) -> None:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while stream.work:
            io, group = stream.work[0]
            if until_s is not None:
                left_s = until_s - time.monotonic()
                is_hung = io.model.device.begin().fault is Fault.HANG
                if left_s < 0 or (is_hung and not io.model.device.hang_for(left_s)):
                    raise Fail(Part.STREAM, SYNC_TIMEOUT, "the stream's work has not ended in time")
            del stream.work[0]
            if Quirk.STREAM_STALE not in self.options.quirks:
                self._run(io, group)

    @does("axclrtEngineExecuteAsync")
    def execute_async(self, model: int, context: int, group: int, io: int | None, stream: int | None) -> None:
        self._stream(stream).work.append((self._ready_io(model, context, io), group))

    @does("axclrtSynchronizeDevice")
    def synchronize_device(self) -> None:
        device = self._here()
        for stream in [each for each in self._streams.values() if each.device is device]:
            self._drain(stream, None)


class Runtime(Devices, Memory, Streams):
    """Everything that the simulated library does for one process."""
