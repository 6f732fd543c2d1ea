"""What goes wrong with a card, and what becomes of it: the error, what is left alone, and the next job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.settings import CHECKOUT
from hardware.axcl.card import AxclCard
from hardware.errors import CardLost, CardTimeout, FeedMismatch, GraphRejected, HardwareError, OutOfCardMemory
from hardware.virtual.abi import description, host
from hardware.virtual.abi.engine import _Plan
from hardware.virtual.abi.options import VARIABLE, Quirk, SimOptions
from hardware.virtual.state import CardState, Fault
from tests import axclsim
from tests.axclsim import MIB
from tests.hardware import graphs

ONES = np.ones((1, 4), np.float32)


@dataclass
class Trouble:
    """One line of the matrix: ``suffer`` makes a job go wrong, ``error`` with ``words`` is what it ends in.

    ``is_poisoned``: nothing of the library may be called any more. ``cure``: what brings the card back.
    """

    name: str
    suffer: Callable[[Stage], None]
    error: type[HardwareError]
    words: str
    is_poisoned: bool = False
    cure: Callable[[CardState], Any] = lambda state: state.order(fault=Fault.NONE)
    sim: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class Stage:
    """A card, the state of its device, and a graph."""

    def __init__(self, trouble: Trouble, library: Path, place: Path) -> None:
        self.trouble, self.library, self.place = trouble, library, place
        self.told = axclsim.strict(place, memory_mib=64, **{"timing": "pi5", **trouble.sim})
        self.state = CardState.open(self.told.state)
        self.quick = graphs.adder(place / "quick.axmodel")
        self.card: AxclCard

    def open(self, **options: Any) -> AxclCard:
        self.card = axclsim.open_card(self.library, self.place, memory_mib=64, **options)
        return self.card

    def job(self, path: Path) -> None:
        """Load, run, unload."""
        graph = self.card.load(path)
        made = graph.run({"a": ONES, "b": ONES}, timeout_s=5)
        assert made["sum"].tolist() == [[2, 2, 2, 2]]
        graph.close()

    @contextmanager
    def meanwhile(self, action: Callable[[], object]) -> Iterator[None]:
        """Have ``action`` done while an execute is under way: its graph has run, and it has not returned."""
        run = _Plan.run

        def ran(plan: _Plan) -> None:
            run(plan)
            action()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(_Plan, "run", ran)
            yield

    @contextmanager
    def while_it_hangs(self, action: Callable[[], object]) -> Iterator[None]:
        """Have ``action`` done once an execute has begun that does not end by itself."""
        began = threading.Event()
        before = host.on_call

        def noticed(name: str) -> None:
            before(name)
            if name == "axclrtEngineExecute":
                began.set()

        def act() -> None:
            began.wait(30)
            action()

        host.on_call = noticed
        thread = threading.Thread(target=act)
        thread.start()
        try:
            yield
        finally:
            host.on_call = before
            thread.join()


def lose_while_executing(stage: Stage) -> None:
    with stage.meanwhile(lambda: stage.state.order(fault=Fault.LOST)):
        stage.job(stage.quick)


def reboot_while_executing(stage: Stage) -> None:
    """An operator, or our own helper, boots the device under a running job."""
    with stage.meanwhile(stage.state.reboot):
        stage.job(stage.quick)


def hang_on_a_stream(stage: Stage) -> None:
    graph = stage.card.load(stage.quick)
    views = {
        spec.name: stage.card.allocate(spec.size_bytes).view()
        for spec in (*graph.groups[0].inputs, *graph.groups[0].outputs)
    }
    step = graph.bind(0, {name: views[name] for name in "ab"}, {"sum": views["sum"]})
    stage.state.order(fault=Fault.HANG)
    began_s = time.monotonic()
    try:
        stage.card.execute([step, step], timeout_s=0.3)
    finally:
        assert 0.3 <= time.monotonic() - began_s < 10


def hang_until_rebooted(stage: Stage) -> None:
    """A synchronous call cannot be given up; booting the device anew from outside ends it, with an error."""
    stage.state.order(fault=Fault.HANG)
    with stage.while_it_hangs(stage.state.reboot):
        stage.job(stage.quick)


def fill_up(stage: Stage) -> None:
    stage.state.order(fault=Fault.OOM)
    stage.job(stage.quick)


def garbage(stage: Stage) -> None:
    path = stage.place / "garbage.axmodel"
    path.write_bytes(os.urandom(5000))
    stage.job(path)


def truncated(stage: Stage) -> None:
    path = stage.place / "short.axmodel"
    path.write_bytes(stage.quick.read_bytes()[:-20])
    stage.job(path)


def wrong_type_of_array(stage: Stage) -> None:
    stage.card.load(stage.quick).run({"a": ONES, "b": ONES.astype(np.float64)}, timeout_s=5)


def unknown_type_of_tensor(stage: Stage) -> None:
    known = description._DATA_TYPES["f32"]
    description._DATA_TYPES["f32"] = 12  # FP8, which no model of ours has
    try:
        stage.job(stage.quick)
    finally:
        description._DATA_TYPES["f32"] = known


def lose_at_once(stage: Stage) -> None:
    stage.state.order(fault=Fault.LOST)
    stage.job(stage.quick)


def drop_the_card_with_onnx(stage: Stage) -> None:
    stage.card.load(graphs.layer(stage.place / "layer.axmodel"))
    stage.job(stage.quick)


def by_reboot(state: CardState) -> None:
    assert state.reboot()


def by_the_third_reboot(state: CardState) -> None:
    state.order(failing_reboots=2)
    assert [state.reboot() for _ in range(3)] == [False, False, True]


FREE_HANGS = {"quirks": frozenset({Quirk.FREE_HANGS_WHEN_DEAD})}
MATRIX = [
    Trouble("lost before a call", lose_at_once, CardLost, "no device connected", True, by_reboot),
    Trouble(
        "lost while executing", lose_while_executing, CardLost, "0x8030070c", True, by_reboot, FREE_HANGS
    ),
    Trouble("booted anew while executing", reboot_while_executing, CardLost, "0x8030070c", True),
    Trouble(
        "an execute on a stream that never ends",
        hang_on_a_stream,
        CardTimeout,
        "0x80300383",
        True,
        by_the_third_reboot,
        FREE_HANGS,
        {"execute": "stream"},
    ),
    Trouble("an execute that ends with a reboot", hang_until_rebooted, CardLost, "0x8030070c", True),
    Trouble("no memory for a load", fill_up, OutOfCardMemory, "quick.axmodel"),
    Trouble("garbage", garbage, GraphRejected, "garbage.axmodel"),
    Trouble("a truncated file", truncated, GraphRejected, "short.axmodel"),
    Trouble("a wrong type of array", wrong_type_of_array, FeedMismatch, "b must be float32"),
    Trouble("a tensor of an unknown type", unknown_type_of_tensor, GraphRejected, "type 12"),
    Trouble(
        "a network from ONNX after a language model's",
        drop_the_card_with_onnx,
        CardLost,
        "no device connected",
        True,
        by_reboot,
        {"quirks": frozenset({Quirk.ONNX_AFTER_LLM_DROPS})},
    ),
]


@pytest.mark.parametrize("trouble", MATRIX, ids=[trouble.name for trouble in MATRIX])
def test_the_right_error_and_the_next_job(trouble: Trouble, axcl_library: Path, tmp_path: Path) -> None:
    stage = Stage(trouble, axcl_library, tmp_path)
    with axclsim.simulated(stage.told):
        assert axclsim.is_simulated(axcl_library)  # what follows would hurt a real card
        card = stage.open(**trouble.options)
        free_bytes = card.memory().free_bytes
        with pytest.raises(trouble.error, match=trouble.words):
            trouble.suffer(stage)
        if trouble.is_poisoned:
            nothing_is_called_any_more(card)
        else:
            trouble.cure(stage.state)
            for graph in list(card._graphs):
                graph.close()
            assert card.memory().free_bytes == free_bytes
            stage.job(stage.quick)
        card.close()
    trouble.cure(stage.state)
    # Who comes next is another process; here, a runtime that begins anew.
    with axclsim.simulated(stage.told), stage.open():
        stage.job(stage.quick)
    assert stage.state.holders() == []


def nothing_is_called_any_more(card: AxclCard) -> None:
    called: list[str] = []
    before, host.on_call = host.on_call, called.append
    try:
        for action in (
            card.memory,
            lambda: card.allocate(4096),
            lambda: card.load(Path("x")),
            lambda: card.execute([], timeout_s=1),
        ):
            with pytest.raises(CardLost, match="is lost"):
                action()
        for graph in list(card._graphs):
            graph.close()
        card.close()
    finally:
        host.on_call = before
    assert called == []


@pytest.mark.parametrize(
    ("sim", "words"),
    [
        ({"devices": 0}, "lspci"),
        ({"has_driver": False}, "dkms autoinstall"),
        ({"devices": 1}, "there is no card 1: the runtime knows 1"),
    ],
)
def test_a_card_that_cannot_be_opened_says_what_to_do(
    sim: dict[str, Any], words: str, axcl_library: Path, tmp_path: Path
) -> None:
    with axclsim.simulated(axclsim.strict(tmp_path, **sim)):
        for _ in range(2):  # the lock is free again after the first try
            with pytest.raises(CardLost, match=words):
                axclsim.open_card(axcl_library, tmp_path, index=1 if "knows" in words else 0)


def test_a_card_that_comes_up_late_is_waited_for(axcl_library: Path, tmp_path: Path) -> None:
    told = axclsim.strict(tmp_path)
    state = CardState.open(told.state)
    state.order(fault=Fault.LOST)
    with axclsim.simulated(told):
        threading.Timer(0.2, lambda: state.order(fault=Fault.NONE)).start()
        with axclsim.open_card(axcl_library, tmp_path, wait_s=30) as card:
            assert card.allocate(4096).size_bytes == 4096


def test_memory_that_never_comes_back_ends_as_a_full_card(axcl_library: Path, tmp_path: Path) -> None:
    """The account says there is room; that the card has none is found out by trying, and said."""
    path = graphs.adder(tmp_path / "a.axmodel")
    quirk = frozenset({Quirk.CMM_NOT_RETURNED, Quirk.OOM_AS_070C})
    told = axclsim.strict(tmp_path, memory_mib=64, quirks=quirk)
    with axclsim.simulated(told), axclsim.open_card(axcl_library, tmp_path, memory_mib=64) as card:
        with pytest.raises(OutOfCardMemory, match="axclrtMalloc"):
            use_up(lambda: card.allocate(2 * MIB).close())
        assert card.memory().free_bytes > 40 * MIB
        with pytest.raises(OutOfCardMemory, match=r"0x8030070c.* cannot be allocated"):
            use_up(lambda: card.load(path).close())


def use_up(take: Callable[[], object]) -> None:
    for _ in range(600):
        take()


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from hardware.virtual.abi import host
from tests import axclsim

library, place, path, call = sys.argv[1:]

def began(name):
    sys.stderr.write(f"[call] {name}\\n")
    if name == call:
        print("in call", flush=True)

host.on_call = began
host.on_return = lambda name: sys.stderr.write(f"[end] {name}\\n")
card = axclsim.open_card(Path(library), Path(place), memory_mib=64)
ones = np.ones((1, 4), np.float32)
graph = card.load(Path(path))
graph.run({"a": ones, "b": ones}, timeout_s=5)
while True:
    graph.run({"a": ones, "b": ones}, timeout_s=5)
"""


@pytest.mark.parametrize("call", ["axclrtEngineExecute", "axclrtEngineLoadFromFile"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_no_call_and_the_card_is_closed(
    call: str, number: signal.Signals, axcl_library: Path, tmp_path: Path
) -> None:
    told = SimOptions(tmp_path / "devices", memory_mib=64, timing="pi5")
    path = graphs.adder(tmp_path / "a.axmodel", step_ms=400)
    script = [sys.executable, "-c", PROGRAM, str(axcl_library), str(tmp_path), str(path), call]
    with subprocess.Popen(
        script,
        cwd=CHECKOUT,
        env={**os.environ, VARIABLE: told.encode()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in call\n"
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number, 1)
    calls = [line.split()[1] for line in log.splitlines() if line.startswith("[call]")]
    ended = [line.split()[1] for line in log.splitlines() if line.startswith("[end]")]
    assert calls == ended  # whatever was begun came back
    assert calls[-3:] == ["axclrtEngineFinalize", "axclrtResetDevice", "axclFinalize"]
    state = CardState.open(told.state)
    assert state.holders() == []
    assert not state.is_owned()
