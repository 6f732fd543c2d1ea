"""The library as a file: its exports, its variants, and that it writes nothing it was not given."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import CHECKOUT
from hardware.axcl.abi import FUNCTIONS, OPTIONAL
from hardware.virtual.abi import __main__ as command
from hardware.virtual.abi.build import CannotBuild, build, generate
from hardware.virtual.abi.exports import EXPORTS, read_exports
from hardware.virtual.abi.host import KINDS
from hardware.virtual.abi.opened import FUNCTIONS as DONE
from hardware.virtual.abi.options import VARIABLE, SimOptions
from tests.axclsim import simulated, strict
from tests.hardware.graphs import adder
from tests.hardware.virtual.abi.raw import Raw


def test_every_export_is_done_and_everything_done_is_exported() -> None:
    assert {export.name for export in EXPORTS} == set(DONE)


def test_the_structs_have_the_vendors_sizes() -> None:
    sizes = {name: ctypes.sizeof(KINDS[name]) for name in KINDS if name.startswith("axclrt")}
    assert sizes == {"axclrtDeviceList": 1028, "axclrtEngineIODims": 132, "axclrtDeviceProperties": 240}
    properties = KINDS["axclrtDeviceProperties"]
    offsets = [getattr(properties, name).offset for name in ("temperature", "totalCmmSize", "npuLoading")]
    assert offsets == [84, 96, 108]


def test_the_binding_and_the_simulation_have_read_the_same_headers() -> None:
    """Two transcriptions: what both declare, both declare alike, pointers being numbers to the binding."""
    theirs = {export.name: export for export in EXPORTS}
    text = (FUNCTIONS + "\n".join(OPTIONAL.values())).replace("()", "(void)")
    ours = [export for export in read_exports(text) if export.name in theirs]
    assert len(ours) > 40
    for export in ours:
        other = theirs[export.name]
        assert _passed(export.gives) == _passed(other.gives), export.name
        given = [_passed(each.kind + "*" * each.is_out) for each in other.arguments]
        assert [_passed(each.kind) for each in export.arguments] == given, export.name


def _passed(kind: str) -> str:
    """How C passes it: by width, and whether it is a pointer."""
    if (
        "*" in kind
        or kind in ("uintptr_t", "axclrtContext", "axclrtStream")
        or kind.startswith("axclrtEngineIO")
    ):
        return "pointer"
    return {"int": "int32_t", "axclError": "int32_t"}.get(kind, kind)


def test_a_function_can_be_left_out_and_the_name_be_another(tmp_path: Path) -> None:
    name = "libaxcl_rt.so.1"
    assert command.main(["--out", str(tmp_path), "--soname", name, "--without", "axclrtRebootDevice"]) == 0
    with simulated(strict(tmp_path)):
        raw = Raw(tmp_path / name)
        assert not raw.has("axclrtRebootDevice")
        raw.open()
    told = subprocess.run(
        ["objdump", "-p", str(tmp_path / name)], capture_output=True, text=True, check=True
    ).stdout
    assert f"SONAME               {name}" in told


def test_what_cannot_be_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--out", str(tmp_path), "--without", "axclrtFly"]) == 1
    assert "axclrtFly" in capsys.readouterr().err
    with pytest.raises(ValueError, match="axclrtFly"):
        generate(["axclrtFly"])


def test_without_a_compiler_the_line_that_installs_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotBuild, match="apt-get install"):
        build(tmp_path)


def test_a_program_that_is_no_python_is_answered_as_if_there_were_no_driver(
    axcl_library: Path, tmp_path: Path
) -> None:
    source = tmp_path / "program.c"
    source.write_text(
        "#include <dlfcn.h>\n#include <stdio.h>\nint main(int n, char **a) {"
        'int (*init)(const char *) = (int (*)(const char *))dlsym(dlopen(a[n - 1], RTLD_NOW), "axclInit");'
        'printf("%x\\n", (unsigned)init(0)); }\n'
    )
    subprocess.run(["gcc", "-o", str(tmp_path / "program"), str(source), "-ldl"], check=True)
    told = subprocess.run(
        [str(tmp_path / "program"), str(axcl_library)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "8030010b\n"


FORKING = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
assert library.axclInit(None) == 0
assert library.axclrtSetDevice(1) == 0
if os.fork() == 0:
    os._exit(library.axclrtSetDevice(1) == 0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_fork_begins_with_nothing_open(axcl_library: Path, tmp_path: Path) -> None:
    environment = {**os.environ, VARIABLE: strict(tmp_path).encode()}
    command_line = [sys.executable, "-c", FORKING, str(axcl_library)]
    # From another directory, without our path: the library brings its Python side along.
    assert subprocess.run(command_line, env=environment, cwd=tmp_path, check=False).returncode == 0


WRITING = """
import ctypes, sys
from pathlib import Path
sys.path.append(sys.argv[3])
from tests.hardware.virtual.abi.raw import Raw
raw = Raw(Path(sys.argv[1]))
small = sys.argv[4] == "small"
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def place(size):
    return ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size // 2 if small else size)))
raw.open()
assert raw("axclrtGetDeviceList", place(1028)) == 0
assert raw("axclrtGetDeviceProperties", 1, place(240)) == 0
model = raw.number("axclrtEngineLoadFromFile", sys.argv[2].encode())
info = raw.number("axclrtEngineGetIOInfo", model)
for group in (0, 1):
    assert raw("axclrtEngineGetInputDims", info, group, 0, place(132)) == 0
for name, size in (("axclrtGetCurrentContext", 8), ("axclrtGetDevice", 4), ("axclrtGetDeviceCount", 4)):
    assert raw(name, place(size)) == 0
assert raw("axclrtEngineGetShapeGroupsCount", info, place(4)) == 0
assert raw("axclrtEngineGetInputDataType", info, 0, place(4)) == 0
assert raw("axclrtGetVersion", place(4), place(4), place(4)) == 0
assert raw("axclrtEngineGetUsageFromModelId", model, place(8), place(8)) == 0
address = raw.malloc(4096)
assert raw("axclrtMemcpy", place(4096), address, 4096, 2) == 0
print("ended")
"""


@pytest.mark.parametrize("size", ["exact", "small"])
def test_nothing_is_written_beyond_what_the_caller_has(tmp_path: Path, size: str) -> None:
    """Built with the address sanitizer; that it looks is shown by giving it too little room."""
    library = build(tmp_path, flags=("-fsanitize=address",))
    sanitizer = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {
        **os.environ,
        VARIABLE: SimOptions(tmp_path / "devices").encode(),
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    script = [sys.executable, "-c", WRITING, str(library), str(adder(tmp_path / "a.axmodel")), str(CHECKOUT)]
    done = subprocess.run([*script, size], env=environment, capture_output=True, text=True, check=False)
    if size == "exact":
        assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    else:
        assert "ERROR: AddressSanitizer" in done.stderr
