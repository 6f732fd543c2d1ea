"""Generates the trampolines and has gcc make a libaxcl_rt.so of them.

A trampoline is a function of the vendor's name that takes the time, calls a function pointer and hands over
what came back. The pointers are set by the Python interpreter that the process runs anyway: it is found by
symbol when the first function is called, so one library serves every Python, and needs no header of any.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

from config.settings import CHECKOUT
from hardware.virtual.abi.exports import EXPORTS, TYPES, Export

SONAME = "libaxcl_rt.so"
COMPILER = "gcc"
INSTALL = (
    "building the simulated library needs gcc: sudo apt-get install --no-install-recommends gcc libc6-dev"
)

_FAILURES = {"uint32_t": "0", "uint64_t": "0", "const char *": "NULL"}
"""What a function gives when no Python answers; those that give an error give ``NO_PYTHON``."""


class CannotBuild(Exception):
    """gcc is missing or refuses; the message says which."""


def build(
    directory: Path, *, soname: str = SONAME, without: Collection[str] = (), flags: Collection[str] = ()
) -> Path:
    """Compile the library into ``directory``, under its ``soname``; its path.

    ``without`` names functions that are not exported.

    Raises:
        CannotBuild: there is no gcc, or it failed.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise CannotBuild(INSTALL)
    directory.mkdir(parents=True, exist_ok=True)
    source, library = directory / "axcl_rt.c", directory / soname
    source.write_text(generate(without))
    fresh = directory / f"{soname}.new"
    command = [compiler, "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [f"-Wl,-soname,{soname}", *flags, "-o", str(fresh), str(source), "-ldl"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotBuild(f"gcc refuses {source}:\n{done.stderr}")
    fresh.replace(library)
    return library


def generate(without: Collection[str] = ()) -> str:
    """The C source. Raises ValueError when a name in ``without`` is not exported anyway."""
    unknown = sorted(set(without) - {export.name for export in EXPORTS})
    if unknown:
        raise ValueError(f"there is no function {unknown[0]}")
    parts = [_PROLOGUE % {"types": TYPES, "root": _quoted(repr(str(CHECKOUT))), "count": len(EXPORTS)}]
    parts += [f"static {_pointer(export)};" for export in EXPORTS]
    parts += [_TABLE % ",\n    ".join(f"(void **)&p_{export.name}" for export in EXPORTS)]
    kept = [(index, export) for index, export in enumerate(EXPORTS) if export.name not in without]
    parts += ["\n".join(_trampoline(index, export)) for index, export in kept]
    return "\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pointer(export: Export) -> str:
    return f"{export.gives} (*p_{export.name})({_parameters(export)})"


def _parameters(export: Export) -> str:
    parts = [f"{each.kind}{' *' if each.is_out else ' '}{each.name}" for each in export.arguments]
    return ", ".join(parts) or "void"


def _trampoline(index: int, export: Export) -> Iterator[str]:
    outs = [each for each in export.arguments if each.is_out]
    yield f"EXPORT {export.gives} {export.name}({_parameters(export)}) {{"
    yield "    struct held held;"
    yield "    hold(&held);"
    yield f"    if (!attached()) {{ let_go(&held); return {_FAILURES.get(export.gives, 'NO_PYTHON')}; }}"
    for each in outs:
        yield f"    {each.kind} own_{each.name};"
        yield f"    memset(&own_{each.name}, 0, sizeof own_{each.name});"
    passed = [
        f"{each.name} ? &own_{each.name} : NULL" if each.is_out else each.name for each in export.arguments
    ]
    yield "    uint64_t began = now_ns();"
    yield f"    {export.gives} result = p_{export.name}({', '.join(passed)});"
    for each in outs:
        yield f"    if (result == 0 && {each.name}) *{each.name} = own_{each.name};"
    yield f"    note({index}, began);"
    yield "    let_go(&held);"
    yield "    return result;"
    yield "}"


_PROLOGUE = r"""/* Made by hardware/virtual/abi/build.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NO_PYTHON ((int32_t)0x8030010b)
#define COUNT %(count)d
/* The checkout, as Python writes it. */
#define ROOT %(root)s
%(types)s
static _Atomic int ready;
static _Atomic uint64_t total_ns;
static _Atomic uint64_t calls[COUNT];
static _Atomic uint64_t spent_ns[COUNT];

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void note(int index, uint64_t began) {
    uint64_t lasted = now_ns() - began;
    atomic_fetch_add_explicit(&total_ns, lasted, memory_order_relaxed);
    atomic_fetch_add_explicit(&spent_ns[index], lasted, memory_order_relaxed);
    atomic_fetch_add_explicit(&calls[index], 1, memory_order_relaxed);
}

/* What tells this library from a vendor's: its own version. */
EXPORT int32_t hearth_axclsim(void) { return 1; }

/* Nanoseconds spent in the functions below so far, and calls of one of them. */
EXPORT uint64_t hearth_axclsim_ns(void) { return atomic_load(&total_ns); }
EXPORT uint64_t hearth_axclsim_calls(int32_t index) {
    return index >= 0 && index < COUNT ? atomic_load(&calls[index]) : 0;
}
EXPORT uint64_t hearth_axclsim_spent_ns(int32_t index) {
    return index >= 0 && index < COUNT ? atomic_load(&spent_ns[index]) : 0;
}

/* A signal that comes while C computes is handled when C has returned. Our functions are Python, which would
   handle it in the middle, so the handlers of those that end programs are kept waiting until the end. Whoever
   has no handler is killed at once, as in C. */
#define HELD 4
static const int held_signals[HELD] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static volatile sig_atomic_t came[HELD];
struct held { struct sigaction before[HELD]; int is_main; };

static void keep(int number) {
    for (int at = 0; at < HELD; at++)
        if (held_signals[at] == number) came[at] = 1;
}

static int has_handler(const struct sigaction *action) {
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

static void hold(struct held *held) {
    /* Python handles signals in its main thread alone. */
    held->is_main = syscall(SYS_gettid) == getpid();
    for (int at = 0; held->is_main && at < HELD; at++) {
        struct sigaction waiting = {.sa_handler = keep};
        sigaction(held_signals[at], NULL, &held->before[at]);
        if (has_handler(&held->before[at])) sigaction(held_signals[at], &waiting, NULL);
    }
}

static void let_go(struct held *held) {
    for (int at = 0; held->is_main && at < HELD; at++) {
        if (!has_handler(&held->before[at])) continue;
        sigaction(held_signals[at], &held->before[at], NULL);
        if (came[at]) {
            came[at] = 0;
            raise(held_signals[at]);
        }
    }
}

static void *const *table(void);

/* Under the interpreter's lock, so that two threads cannot be here at once; attaching twice is harmless. */
static int attach(void) {
    int (*ensure)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
    void (*release)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "PyGILState_Release");
    int (*run)(const char *, void *);
    run = (int (*)(const char *, void *))dlsym(RTLD_DEFAULT, "PyRun_SimpleStringFlags");
    if (!ensure || !release || !run) return 0;
    char code[8192];
    int length = snprintf(code, sizeof code,
        "[path.append(root) for path, root in [(__import__('sys').path, %%s)] if root not in path]\n"
        "__import__('hardware.virtual.abi.host', fromlist=['attach']).attach(%%llu, %%d)\n",
        ROOT, (unsigned long long)(uintptr_t)table(), COUNT);
    if (length < 0 || (size_t)length >= sizeof code) return 0;
    int held = ensure();
    int failed = run(code, NULL);
    release(held);
    return !failed;
}

/* Whether there is a Python to answer. It is asked each time: one that is going away answers no more. */
static int attached(void) {
    static int (*initialized)(void);
    if (!initialized) initialized = (int (*)(void))dlsym(RTLD_DEFAULT, "Py_IsInitialized");
    if (!initialized || !initialized()) return 0;
    if (!atomic_load_explicit(&ready, memory_order_acquire)) {
        if (!attach()) return 0;
        atomic_store_explicit(&ready, 1, memory_order_release);
    }
    return 1;
}
"""

_TABLE = """
static void **const slots[COUNT] = {
    %s
};

static void *const *table(void) { return (void *const *)slots; }
"""
