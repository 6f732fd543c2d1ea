"""The functions of libaxcl_rt.so that the simulated one exports, with the vendor's signatures.

An argument ``OUT(T) name`` is ``T *name`` that the function writes when it succeeds: the trampoline owns the
place that Python writes to, so nothing but a whole ``T`` ever lands in the caller's memory.
Source: the public headers of AXCL V3.10.2, and of V3.6.x for what they no longer have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TYPES = """
typedef int32_t axclError;
typedef void *axclrtContext;
typedef void *axclrtStream;
typedef void *axclrtEngineIOInfo;
typedef void *axclrtEngineIO;
typedef struct { uint32_t num; int32_t devices[256]; } axclrtDeviceList;
typedef struct { int32_t dimCount; int32_t dims[32]; } axclrtEngineIODims;
typedef struct {
    char swVersion[64]; uint64_t uid; uint32_t pciDomain, pciBusID, pciDeviceID; int32_t temperature;
    uint32_t totalMemSize, freeMemSize, totalCmmSize, freeCmmSize, cpuLoading, npuLoading, reserved[32];
} axclrtDeviceProperties;
typedef struct {
    uint64_t h2d_bytes, d2h_bytes, d2d_bytes, h2d_calls, d2h_calls, d2d_calls, executes; double busy_s;
} axclsimCounters;
"""

PROTOTYPES = """
axclError axclInit(const char *config);
axclError axclFinalize(void);
axclError axclSetLogLevel(int32_t level);
axclError axclrtGetVersion(OUT(int32_t) major, OUT(int32_t) minor, OUT(int32_t) patch);
const char *axclrtGetFullVersion(void);
const char *axclrtGetSocName(void);
axclError axclrtGetDeviceList(OUT(axclrtDeviceList) list);
axclError axclrtGetDeviceCount(OUT(uint32_t) count);
axclError axclrtSetDevice(int32_t device);
axclError axclrtGetDevice(OUT(int32_t) device);
axclError axclrtResetDevice(int32_t device);
axclError axclrtRebootDevice(int32_t device);
axclError axclrtSynchronizeDevice(void);
axclError axclrtGetDeviceProperties(int32_t device, OUT(axclrtDeviceProperties) properties);
axclError axclrtCreateContext(OUT(axclrtContext) context, int32_t device);
axclError axclrtDestroyContext(axclrtContext context);
axclError axclrtSetCurrentContext(axclrtContext context);
axclError axclrtGetCurrentContext(OUT(axclrtContext) context);
axclError axclrtGetDefaultContext(OUT(axclrtContext) context, int32_t device);
axclError axclrtMalloc(OUT(void *) address, size_t size, int32_t policy);
axclError axclrtMallocCached(OUT(void *) address, size_t size, int32_t policy);
axclError axclrtFree(void *address);
axclError axclrtMallocHost(OUT(void *) address, size_t size);
axclError axclrtFreeHost(void *address);
axclError axclrtMemFlush(void *address, size_t size);
axclError axclrtMemInvalidate(void *address, size_t size);
axclError axclrtMemset(void *address, uint8_t value, size_t count);
axclError axclrtMemcpy(void *to, const void *from, size_t count, int32_t kind);
axclError axclrtMemcmp(const void *one, const void *other, size_t count);
axclError axclrtCreateStream(OUT(axclrtStream) stream);
axclError axclrtDestroyStream(axclrtStream stream);
axclError axclrtDestroyStreamForce(axclrtStream stream);
axclError axclrtSynchronizeStream(axclrtStream stream);
axclError axclrtSynchronizeStreamWithTimeout(axclrtStream stream, int32_t milliseconds);
axclError axclrtEngineInit(int32_t kind);
axclError axclrtEngineGetVNpuKind(OUT(int32_t) kind);
axclError axclrtEngineFinalize(void);
axclError axclrtEngineLoadFromFile(const char *path, OUT(uint64_t) model);
axclError axclrtEngineLoadFromMem(const void *address, uint64_t size, OUT(uint64_t) model);
axclError axclrtEngineUnload(uint64_t model);
const char *axclrtEngineGetModelCompilerVersion(uint64_t model);
axclError axclrtEngineSetAffinity(uint64_t model, uint32_t set);
axclError axclrtEngineGetAffinity(uint64_t model, OUT(uint32_t) set);
axclError axclrtEngineGetUsage(const char *path, OUT(int64_t) system, OUT(int64_t) cmm);
axclError axclrtEngineGetUsageFromModelId(uint64_t model, OUT(int64_t) system, OUT(int64_t) cmm);
axclError axclrtEngineGetModelType(const char *path, OUT(int32_t) type);
axclError axclrtEngineGetModelTypeFromModelId(uint64_t model, OUT(int32_t) type);
axclError axclrtEngineGetIOInfo(uint64_t model, OUT(axclrtEngineIOInfo) info);
axclError axclrtEngineDestroyIOInfo(axclrtEngineIOInfo info);
axclError axclrtEngineGetShapeGroupsCount(axclrtEngineIOInfo info, OUT(int32_t) count);
uint32_t axclrtEngineGetNumInputs(axclrtEngineIOInfo info);
uint32_t axclrtEngineGetNumOutputs(axclrtEngineIOInfo info);
uint64_t axclrtEngineGetInputSizeByIndex(axclrtEngineIOInfo info, uint32_t group, uint32_t index);
uint64_t axclrtEngineGetOutputSizeByIndex(axclrtEngineIOInfo info, uint32_t group, uint32_t index);
axclError axclrtEngineGetInputDims(axclrtEngineIOInfo info, uint32_t group,
    uint32_t index, OUT(axclrtEngineIODims) dims);
axclError axclrtEngineGetOutputDims(axclrtEngineIOInfo info, uint32_t group,
    uint32_t index, OUT(axclrtEngineIODims) dims);
const char *axclrtEngineGetInputNameByIndex(axclrtEngineIOInfo info, uint32_t index);
const char *axclrtEngineGetOutputNameByIndex(axclrtEngineIOInfo info, uint32_t index);
int32_t axclrtEngineGetInputIndexByName(axclrtEngineIOInfo info, const char *name);
int32_t axclrtEngineGetOutputIndexByName(axclrtEngineIOInfo info, const char *name);
int32_t axclrtEngineGetInputDataType(axclrtEngineIOInfo info, uint32_t index, OUT(int32_t) type);
int32_t axclrtEngineGetOutputDataType(axclrtEngineIOInfo info, uint32_t index, OUT(int32_t) type);
int32_t axclrtEngineGetInputDataLayout(axclrtEngineIOInfo info, uint32_t index, OUT(int32_t) layout);
int32_t axclrtEngineGetOutputDataLayout(axclrtEngineIOInfo info, uint32_t index, OUT(int32_t) layout);
axclError axclrtEngineCreateIO(axclrtEngineIOInfo info, OUT(axclrtEngineIO) io);
axclError axclrtEngineDestroyIO(axclrtEngineIO io);
axclError axclrtEngineSetInputBufferByIndex(axclrtEngineIO io, uint32_t index,
    const void *address, uint64_t size);
axclError axclrtEngineSetOutputBufferByIndex(axclrtEngineIO io, uint32_t index,
    const void *address, uint64_t size);
axclError axclrtEngineSetInputBufferByName(axclrtEngineIO io, const char *name,
    const void *address, uint64_t size);
axclError axclrtEngineSetOutputBufferByName(axclrtEngineIO io, const char *name,
    const void *address, uint64_t size);
axclError axclrtEngineGetInputBufferByIndex(axclrtEngineIO io, uint32_t index,
    OUT(void *) address, OUT(uint64_t) size);
axclError axclrtEngineGetOutputBufferByIndex(axclrtEngineIO io, uint32_t index,
    OUT(void *) address, OUT(uint64_t) size);
axclError axclrtEngineSetDynamicBatchSize(axclrtEngineIO io, uint32_t size);
axclError axclrtEngineCreateContext(uint64_t model, OUT(uint64_t) context);
axclError axclrtEngineExecute(uint64_t model, uint64_t context, uint32_t group, axclrtEngineIO io);
axclError axclrtEngineExecuteAsync(uint64_t model, uint64_t context, uint32_t group,
    axclrtEngineIO io, axclrtStream stream);
axclError hearth_axclsim_counters(int32_t device, OUT(axclsimCounters) counters);
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """``kind``: the C type; of what is pointed to when ``is_out``."""

    name: str
    kind: str
    is_out: bool


@dataclass(frozen=True, slots=True)
class Export:
    """One function. ``gives``: its C return type."""

    name: str
    gives: str
    arguments: tuple[Argument, ...]


_PROTOTYPE = re.compile(r"^(?P<gives>.*?)(?P<name>(?:axcl|hearth)\w+)\((?P<arguments>.*)\)$")
_OUT = re.compile(r"^OUT\((?P<kind>.*)\) (?P<name>\w+)$")
_IN = re.compile(r"^(?P<kind>.*?)(?P<name>\w+)$")


def read_exports(text: str = PROTOTYPES) -> tuple[Export, ...]:
    """The functions of ``text``, in its order. Raises ValueError where something is no prototype."""
    return tuple(_export(" ".join(line.split())) for line in text.split(";") if line.strip())


def _export(line: str) -> Export:
    match = _PROTOTYPE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no prototype")
    inside = match["arguments"]
    arguments = () if inside == "void" else tuple(_argument(part.strip()) for part in inside.split(","))
    return Export(match["name"], match["gives"].strip(), arguments)


def _argument(text: str) -> Argument:
    match = _OUT.match(text) or _IN.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no argument")
    return Argument(match["name"], match["kind"].strip(), text.startswith("OUT("))


EXPORTS = read_exports()
