"""The part of the AXCL runtime's C interface that Hearth calls.

Device addresses and handles are numbers here: on LP64 a pointer and a ``uintptr_t`` are passed alike, and a
number that nobody can follow by accident is what a device address is. Source: the headers of AXCL V3.10.2;
functions that only other versions have stand in ``OPTIONAL``.
"""

from __future__ import annotations

from collections.abc import Mapping

STRUCTS = """
typedef int32_t axclError;
typedef struct { uint32_t num; int32_t devices[256]; } axclrtDeviceList;
typedef struct { int32_t dimCount; int32_t dims[32]; } axclrtEngineIODims;
"""

FUNCTIONS = """
axclError axclInit(const char *config);
axclError axclFinalize();
axclError axclrtGetDeviceList(axclrtDeviceList *list);
axclError axclrtSetDevice(int32_t device);
axclError axclrtResetDevice(int32_t device);
axclError axclrtGetCurrentContext(uintptr_t *context);
axclError axclrtSetCurrentContext(uintptr_t context);

axclError axclrtMalloc(uintptr_t *address, size_t size, int policy);
axclError axclrtFree(uintptr_t address);
axclError axclrtMemset(uintptr_t address, uint8_t value, size_t size);
axclError axclrtMemcpy(uintptr_t to, uintptr_t from, size_t size, int kind);

axclError axclrtEngineInit(int kind);
axclError axclrtEngineFinalize();
axclError axclrtEngineGetVNpuKind(int *kind);
axclError axclrtEngineLoadFromFile(const char *path, uint64_t *model);
axclError axclrtEngineUnload(uint64_t model);
axclError axclrtEngineCreateContext(uint64_t model, uint64_t *context);
axclError axclrtEngineGetIOInfo(uint64_t model, uintptr_t *info);
axclError axclrtEngineGetShapeGroupsCount(uintptr_t info, int32_t *count);
uint32_t axclrtEngineGetNumInputs(uintptr_t info);
uint32_t axclrtEngineGetNumOutputs(uintptr_t info);
uint64_t axclrtEngineGetInputSizeByIndex(uintptr_t info, uint32_t group, uint32_t index);
uint64_t axclrtEngineGetOutputSizeByIndex(uintptr_t info, uint32_t group, uint32_t index);
axclError axclrtEngineGetInputDims(uintptr_t info, uint32_t group, uint32_t index, axclrtEngineIODims *dims);
axclError axclrtEngineGetOutputDims(uintptr_t info, uint32_t group, uint32_t index, axclrtEngineIODims *dims);
const char *axclrtEngineGetInputNameByIndex(uintptr_t info, uint32_t index);
const char *axclrtEngineGetOutputNameByIndex(uintptr_t info, uint32_t index);
int32_t axclrtEngineGetInputDataType(uintptr_t info, uint32_t index, int *type);
int32_t axclrtEngineGetOutputDataType(uintptr_t info, uint32_t index, int *type);
axclError axclrtEngineCreateIO(uintptr_t info, uintptr_t *io);
axclError axclrtEngineDestroyIO(uintptr_t io);
axclError axclrtEngineSetInputBufferByIndex(uintptr_t io, uint32_t index, uintptr_t address, uint64_t size);
axclError axclrtEngineSetOutputBufferByIndex(uintptr_t io, uint32_t index, uintptr_t address, uint64_t size);
axclError axclrtEngineExecute(uint64_t model, uint64_t context, uint32_t group, uintptr_t io);
"""

OPTIONAL: Mapping[str, str] = {
    "axclSetLogLevel": "axclError axclSetLogLevel(int level);",
    "axclrtGetFullVersion": "const char *axclrtGetFullVersion();",
    "axclrtGetVersion": "axclError axclrtGetVersion(int32_t *major, int32_t *minor, int32_t *patch);",
    "axclrtGetSocName": "const char *axclrtGetSocName();",
    "axclrtRebootDevice": "axclError axclrtRebootDevice(int32_t device);",
    "axclrtEngineDestroyIOInfo": "axclError axclrtEngineDestroyIOInfo(uintptr_t info);",
    "axclrtEngineGetUsageFromModelId": (
        "axclError axclrtEngineGetUsageFromModelId(uint64_t model, int64_t *system, int64_t *cmm);"
    ),
    "axclrtEngineGetModelCompilerVersion": "const char *axclrtEngineGetModelCompilerVersion(uint64_t model);",
    "axclrtCreateStream": "axclError axclrtCreateStream(uintptr_t *stream);",
    "axclrtDestroyStream": "axclError axclrtDestroyStream(uintptr_t stream);",
    "axclrtSynchronizeStreamWithTimeout": (
        "axclError axclrtSynchronizeStreamWithTimeout(uintptr_t stream, int32_t milliseconds);"
    ),
    "axclrtEngineExecuteAsync": (
        "axclError axclrtEngineExecuteAsync"
        "(uint64_t model, uint64_t context, uint32_t group, uintptr_t io, uintptr_t stream);"
    ),
    # Of the simulated library alone: what tells it from a real one, and its own clock and counters.
    "hearth_axclsim": "int32_t hearth_axclsim();",
    "hearth_axclsim_ns": "uint64_t hearth_axclsim_ns();",
}
"""What some versions lack → how it is declared. ``Library.has`` says whether it is there."""

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
NORMAL_PAGES = 2
WHOLE_NPU = 0

DTYPES: Mapping[int, str] = {
    3: "i8",
    4: "u8",
    5: "i16",
    6: "u16",
    7: "i32",
    8: "u32",
    9: "i64",
    13: "f16",
    14: "bf16",
    15: "f32",
}
"""The runtime's numbers of element types → ours."""
