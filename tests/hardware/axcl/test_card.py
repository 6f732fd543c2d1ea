"""The binding against the simulated library, in its strict mode: what the seam promises."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.axcl.card import SYSTEM_BYTES, AxclCard
from hardware.axcl.graph import AxclGraph, AxclStep
from hardware.card import Buffer, Counters, View
from hardware.errors import CardBusy, CardLost, FeedMismatch, GraphRejected, OutOfCardMemory
from hardware.virtual.abi import host
from hardware.virtual.abi.options import Mode, Quirk
from tests import axclsim
from tests.axclsim import MIB
from tests.hardware import graphs
from tests.hardware.axcl.conftest import OpenCard
from tests.hardware.graphs import HIDDEN, ROWS, WIDTH

A, B = (np.arange(start, start + 4, dtype=np.float32).reshape(1, 4) for start in (1, 10))


def test_it_says_what_it_is(open_card: OpenCard, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        card = open_card(sdk="V3.6.5_20250901000000")
    assert (card.info.id, card.info.firmware) == ("axcl-0", "V3.6.5_20250901000000")
    assert card.info.name == "AX650N (simulated)"
    assert not card.info.is_virtual
    assert "SIMULATED" in caplog.text
    assert "5 KB up" in caplog.text
    assert card.memory().free_bytes == 7040 * MIB - SYSTEM_BYTES


def test_memory_is_zero_and_keeps_what_it_is_given(card: AxclCard) -> None:
    buffer = card.allocate(200_000)
    assert buffer.read(0, 200_000) == bytes(200_000)
    data = np.random.default_rng(1).integers(0, 256, 100_000, np.uint8)
    buffer.write(data, 77)
    buffer.write(b"small", 5)
    assert buffer.read(77, 100_000) == data.tobytes()
    assert buffer.read(4, 7) == b"\0small\0"[:7]
    target = np.empty((100, 1000), np.uint8)
    buffer.read_into(target, 77)
    assert target.tobytes() == data.tobytes()
    other = card.allocate(4096)
    other.copy_from(buffer.view(77, 4000), 96)
    assert other.read(96, 4000) == data.tobytes()[:4000]


@pytest.mark.parametrize("zero", ["auto", "memset", "copy"])
def test_zeros_come_by_either_way(open_card: OpenCard, zero: str) -> None:
    assert not any(open_card(zero=zero).allocate(9_000_000).read(0, 9_000_000))


def test_zeros_are_copied_where_memset_does_nothing(card: AxclCard, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        def __getattr__(self, name: str) -> Any:
            return (lambda *given: 0) if name == "axclrtMemset" else getattr(card.library.functions, name)

    monkeypatch.setattr(card, "functions", Deaf())
    assert not any(card.allocate(100_000).read(0, 100_000))


def test_memory_beyond_a_buffer_is_refused_before_the_card_is_asked(card: AxclCard) -> None:
    buffer, calls = card.allocate(4096), card.counters.copy()
    for wrong in (
        lambda: buffer.write(bytes(4097)),
        lambda: buffer.write(b"x", -1),
        lambda: buffer.read(1, 4096),
        lambda: buffer.view(4096, 1),
        lambda: buffer.copy_from(View(buffer, 0, 8192)),
    ):
        with pytest.raises(FeedMismatch):
            wrong()
    assert card.counters == calls
    buffer.close()
    buffer.close()
    with pytest.raises(FeedMismatch, match="closed"):
        buffer.read(0, 1)


def test_a_network_runs_in_all_its_groups(card: AxclCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "adder.axmodel"))
    assert [group.inputs[0].shape for group in graph.groups] == [(1, 4), (1, 8)]
    for _ in range(2):
        assert graph.run({"a": A, "b": B}, timeout_s=5)["sum"].tolist() == [[11, 13, 15, 17]]
        wide = np.ones((1, 8), np.float32)
        assert graph.run({"a": wide, "b": wide}, group=1, timeout_s=5)["sum"].tolist() == [[2.0] * 8]
    with pytest.raises(FeedMismatch, match="'b'"):
        graph.run({"a": A}, timeout_s=5)
    with pytest.raises(FeedMismatch, match="groups 0 to 1"):
        graph.run({"a": A, "b": B}, group=2, timeout_s=5)


def test_what_crosses_the_bus_is_counted(card: AxclCard, tmp_path: Path) -> None:
    graph = card.load(graphs.adder(tmp_path / "adder.axmodel"))
    graph.run({"a": A, "b": B}, timeout_s=5)
    before = card.counters.copy()
    graph.run({"a": A, "b": B}, timeout_s=5)
    after = card.counters
    assert (after.h2d_bytes - before.h2d_bytes, after.h2d_calls - before.h2d_calls) == (32, 2)
    assert (after.d2h_bytes - before.d2h_bytes, after.d2h_calls - before.d2h_calls) == (16, 1)
    assert after.executes - before.executes == 1
    assert after.busy_s > before.busy_s
    assert _library_counters() == _without_time(after)


def _library_counters() -> dict[str, int]:
    return _without_time(host.runtime()._device(1).counters)


def _without_time(counters: Counters) -> dict[str, int]:
    """What both count alike: bytes up are loads and zeros as well, which only the library sees."""
    return {
        name: getattr(counters, name)
        for name in ("d2h_bytes", "d2d_bytes", "d2h_calls", "d2d_calls", "executes")
    }


class Layer:
    """The tiny layer with buffers of its own, driven as an engine drives a real one."""

    def __init__(self, card: AxclCard, graph: AxclGraph) -> None:
        self.graph = graph
        specs = graph.groups[0]
        self.inputs: dict[str, Buffer] = {spec.name: card.allocate(spec.size_bytes) for spec in specs.inputs}
        self.outputs: dict[str, Buffer] = {
            spec.name: card.allocate(spec.size_bytes) for spec in specs.outputs
        }

    def bind(self, inputs: dict[str, View] | None = None, outputs: dict[str, View] | None = None) -> AxclStep:
        own = ({name: each.view() for name, each in side.items()} for side in (self.inputs, self.outputs))
        return self.graph.bind(0, {**next(own), **(inputs or {})}, {**next(own), **(outputs or {})})

    def row(self, cache: str, position: int) -> View:
        return self.inputs[cache].view(position * WIDTH * 2, WIDTH * 2)


@pytest.fixture
def layer(card: AxclCard, tmp_path: Path) -> Layer:
    return Layer(card, card.load(graphs.layer(tmp_path / "layer.axmodel")))


def test_a_row_may_lie_in_its_own_cache_and_nowhere_else(layer: Layer) -> None:
    step = layer.bind(
        outputs={"K_cache_out": layer.row("K_cache", 0), "V_cache_out": layer.row("V_cache", 3)}
    )
    step.rebind("K_cache_out", layer.row("K_cache", ROWS - 1))
    for name, view in (
        ("K_cache_out", layer.row("V_cache", 1)),
        ("output", layer.inputs["input"].view()),
        ("input", layer.outputs["output"].view()),
        ("V_cache_out", layer.row("K_cache", ROWS - 1)),
    ):
        with pytest.raises(FeedMismatch, match="overlaps"):
            step.rebind(name, view)
    with pytest.raises(FeedMismatch, match="overlaps"):
        layer.bind(outputs={"output": layer.inputs["mask"].view(0, HIDDEN * 2)})


def test_every_tensor_is_bound_with_exactly_its_size(layer: Layer) -> None:
    with pytest.raises(FeedMismatch, match="8 bytes"):
        layer.bind(inputs={"input": layer.inputs["mask"].view()})
    with pytest.raises(FeedMismatch, match="unknown 'x'"):
        layer.bind(inputs={"x": layer.inputs["mask"].view()})
    step = layer.bind()
    with pytest.raises(FeedMismatch, match="no tensor 'x'"):
        step.rebind("x", layer.inputs["mask"].view())


def test_a_step_does_not_run_with_what_was_given_back(card: AxclCard, layer: Layer) -> None:
    step = layer.bind()
    card.execute([step], timeout_s=5)
    spare = card.allocate(64)
    step.rebind("output", spare.view(0, HIDDEN * 2))
    spare.close()
    with pytest.raises(FeedMismatch, match="output is bound to a closed buffer"):
        card.execute([step], timeout_s=5)
    layer.graph.close()
    with pytest.raises(FeedMismatch, match="closed"):
        card.execute([step], timeout_s=5)


def test_closing_gives_everything_back_in_order(open_card: OpenCard, tmp_path: Path) -> None:
    names: list[str] = []
    card = open_card(memory_mib=64)
    free_bytes = card.memory().free_bytes
    layer = Layer(card, card.load(graphs.layer(tmp_path / "layer.axmodel")))
    layer.bind()
    layer.graph.close()
    for buffer in (*layer.inputs.values(), *layer.outputs.values()):
        buffer.close()
    assert card.memory().free_bytes == free_bytes
    graph = card.load(graphs.adder(tmp_path / "adder.axmodel"))
    graph.run({"a": A, "b": B}, timeout_s=5)
    device = host.runtime()._device(1)
    with _recording(names):
        card.close()
        card.close()
    order = [
        "axclrtEngineDestroyIO",
        "axclrtFree",
        "axclrtEngineDestroyIOInfo",
        "axclrtEngineUnload",
        "axclrtEngineFinalize",
        "axclrtResetDevice",
        "axclFinalize",
    ]
    assert sorted(set(names), key=names.index) in (order, ["axclrtFree", order[0], *order[2:]])
    assert device._arena.used_bytes == 0


class _recording:  # noqa: N801  # reads as what it does
    """Writes down what is called of the simulated library."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __enter__(self) -> None:
        self._answer = host.on_call
        host.on_call = self._names.append

    def __exit__(self, *_: object) -> None:
        host.on_call = self._answer


def test_a_card_has_one_owner(open_card: OpenCard) -> None:
    open_card()
    with pytest.raises(CardBusy, match="axcl-0 belongs to process"):
        open_card()


def test_two_cards_of_one_process_are_not_mixed_up(open_card: OpenCard, tmp_path: Path) -> None:
    one, other = open_card(devices=2), open_card(index=1)
    first, second = one.allocate(4096), other.allocate(4096)
    assert first.address == second.address
    first.write(b"first")
    second.write(b"second")
    assert (first.read(0, 5), second.read(0, 6)) == (b"first", b"second")
    with pytest.raises(FeedMismatch, match="another card"):
        first.copy_from(second.view())
    one.close()
    assert second.read(0, 6) == b"second"


def test_another_thread_is_refused(card: AxclCard) -> None:
    problems: list[BaseException] = []

    def elsewhere() -> None:
        try:
            card.memory()
        except FeedMismatch as error:
            problems.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "another thread" in str(problems[0])


def test_the_stream_gives_what_single_calls_give(open_card: OpenCard, tmp_path: Path) -> None:
    results = []
    for execute in ("sync", "stream"):
        card = open_card(memory_mib=64, execute=execute)
        assert card.traits.stream_execution == (execute == "stream")
        layer = Layer(card, card.load(graphs.layer(tmp_path / "layer.axmodel")))
        layer.inputs["input"].write(np.full(HIDDEN, 0x3F80, np.uint16))
        card.execute([layer.bind(), layer.bind()], timeout_s=5)
        results.append(layer.outputs["output"].read(0, HIDDEN * 2))
        assert card.counters.executes == 2
        card.close()
    assert results[0] == results[1]


def test_without_stream_functions_steps_run_one_by_one(
    open_card: OpenCard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = axclsim.built(tmp_path / "old", without=("axclrtEngineExecuteAsync",))
    assert not open_card(library, execute="stream").traits.stream_execution
    assert "no axclrtEngineExecuteAsync" in caplog.text


@pytest.mark.parametrize("quirk", [Quirk.SECOND_ENGINEINIT_FAILS])
def test_an_engine_that_is_there_already_will_do(open_card: OpenCard, quirk: Quirk) -> None:
    open_card(devices=2, quirks=frozenset({quirk}))
    assert open_card(index=1).allocate(4096).size_bytes == 4096


def test_a_library_that_is_missing_says_where_it_was_looked_for(
    open_card: OpenCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CardLost, match=r"cannot be opened: .*nothing\.so"):
        open_card(tmp_path / "nothing.so")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setattr("hardware.axcl.library.DIRECTORY", tmp_path)
    with pytest.raises(CardLost, match=r"not in .* set HEARTH_AXCL__LIBRARY"):
        axclsim.open_card(None, tmp_path)  # type: ignore[arg-type]


def test_a_library_under_its_other_name_is_found(
    open_card: OpenCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axclsim.built(tmp_path / "lib", soname="libaxcl_rt.so.1")
    monkeypatch.setattr("hardware.axcl.library.DIRECTORY", tmp_path / "lib")
    assert open_card(None).library.path.name == "libaxcl_rt.so.1"


def test_a_library_that_lacks_a_function_is_named(open_card: OpenCard, tmp_path: Path) -> None:
    library = axclsim.built(tmp_path / "old", without=("axclrtMemset",))
    with pytest.raises(CardLost, match="has no function axclrtMemset"):
        open_card(library)


def test_what_a_version_lacks_is_done_without(open_card: OpenCard, tmp_path: Path) -> None:
    lacking = (
        "axclrtGetFullVersion",
        "axclrtEngineGetUsageFromModelId",
        "axclrtRebootDevice",
        "axclSetLogLevel",
        "axclrtGetSocName",
        "axclrtEngineDestroyIOInfo",
    )
    card = open_card(axclsim.built(tmp_path / "old", without=lacking))
    assert card.info.firmware == "V3.10.2"
    assert card.load(graphs.adder(tmp_path / "a.axmodel")).run({"a": A, "b": B}, timeout_s=5)


FILES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage" * 1000),
    "truncated": lambda path: path.write_bytes(graphs.adder(path).read_bytes()[:150]),
}


@pytest.mark.parametrize("how", FILES)
@pytest.mark.parametrize("quirks", [(), (Quirk.OOM_AS_070C,)])
def test_files_that_are_no_graphs_are_rejected_and_cost_nothing(
    open_card: OpenCard, tmp_path: Path, how: str, quirks: tuple[Quirk, ...]
) -> None:
    card = open_card(memory_mib=64, quirks=frozenset(quirks))
    free_bytes, path = card.memory().free_bytes, tmp_path / "x.axmodel"
    FILES[how](path)
    with pytest.raises(GraphRejected, match=r"x\.axmodel"):
        card.load(path)
    assert card.memory().free_bytes == free_bytes
    assert card.load(graphs.adder(path)).run({"a": A, "b": B}, timeout_s=5)


@pytest.mark.parametrize("quirks", [(), (Quirk.OOM_AS_070C,)])
def test_a_full_card_is_told_as_such_whatever_the_runtime_says(
    open_card: OpenCard, tmp_path: Path, quirks: tuple[Quirk, ...]
) -> None:
    card = open_card(memory_mib=64, quirks=frozenset(quirks))
    path = graphs.adder(tmp_path / "a.axmodel")
    # The account says that there is room; the card knows better.
    taken = host.runtime()._device(1)._arena.take(64 * MIB - 8192)
    with pytest.raises(OutOfCardMemory, match="axclrtMalloc"):
        card.allocate(2 * MIB)
    rest = host.runtime()._device(1)._arena.take(8192)
    with pytest.raises(OutOfCardMemory, match=r"a\.axmodel"):
        card.load(path)
    host.runtime()._device(1)._arena.give_back(rest)
    host.runtime()._device(1)._arena.give_back(taken)
    assert card.load(path).run({"a": A, "b": B}, timeout_s=5)
    with pytest.raises(OutOfCardMemory, match="do not fit"):
        card.allocate(65 * MIB)


def test_a_load_that_leaves_too_little_is_taken_back(axcl_library: Path, tmp_path: Path) -> None:
    from config.groups import AxclSettings

    with axclsim.simulated(axclsim.strict(tmp_path, memory_mib=64)):
        settings = AxclSettings(library=axcl_library, wait_s=0)
        margin_bytes = 64 * MIB - SYSTEM_BYTES
        with AxclCard(tmp_path, settings, axclsim.info(memory_mib=64), margin_bytes=margin_bytes) as card:
            free_bytes = card.memory().free_bytes
            with pytest.raises(OutOfCardMemory, match="margin"):
                card.load(graphs.adder(tmp_path / "a.axmodel"))
            assert card.memory().free_bytes == free_bytes


@pytest.mark.parametrize("mode", list(Mode))
def test_it_asks_for_nothing_that_any_mode_would_mind(
    open_card: OpenCard, tmp_path: Path, mode: Mode
) -> None:
    card = open_card(memory_mib=64, mode=mode)
    graph = card.load(graphs.adder(tmp_path / "a.axmodel"))
    assert graph.run({"a": A, "b": B}, timeout_s=5)["sum"].tolist() == [[11, 13, 15, 17]]
