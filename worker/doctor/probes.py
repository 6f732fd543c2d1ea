"""``hearth doctor --card-probe``: opens the card and tries what only a card can settle; one table to paste.

It wants the card for itself, so Hearth must not be running. Whatever a row says, nothing is changed by it.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.settings import Settings
from hardware.card import Buffer, Card
from hardware.choose import open_card
from hardware.errors import CardBusy, CardLost, CardTimeout, HardwareError
from hardware.health import Reading, Sensors
from models.catalog import scan
from models.diffusion.package import find_package as find_pictures
from models.embedding.package import find_package as find_encoder
from models.llm.network import Network
from models.llm.package import find_package
from models.llm.probe import probe
from models.manifest import PackageProblem, read_manifest
from tasks.board import Model
from tasks.jobs import JobKind
from worker.doctor.report import Page

MIB = 1 << 20
ROUNDS = 30
"""Of each small transfer; the median is told."""
STEPS = 8
"""Decoded tokens that are timed."""
RUN_LIMIT_S = 60.0
"""A graph that is run once."""
RETURNED_S = 10.0
"""Memory of what was unloaded must be free again after so long."""


@dataclass(frozen=True, slots=True)
class Row:
    """One probe: what was tried, what came of it, and figures or reasons."""

    probe: str
    result: str
    detail: str = ""


def show_probes(settings: Settings, page: Page, *, as_json: bool) -> int:
    """Print the rows; 1 when the card cannot be opened or was lost on the way."""
    rows: list[Row] = []
    status = 0
    try:
        with _heeding_signals() as told_to_stop:
            for row in probes(settings):
                sys.stderr.write(f"{row.probe}: {row.result}\n" if sys.stderr.isatty() else "")
                rows.append(row)
                if told_to_stop:
                    rows.append(Row("stopped", "early", "on request"))
                    status = 1
                    break
    except CardBusy as error:
        rows.append(
            Row("stopped", "failed", f"{error}: stop Hearth first (Ctrl-C, or systemctl stop hearth.target)")
        )
        status = 1
    except (HardwareError, OSError) as error:
        rows.append(Row("stopped", "failed", f"{type(error).__name__}: {error}"))
        status = 1
    if as_json:
        told = [{"probe": row.probe, "result": row.result, "detail": row.detail} for row in rows]
        sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2) + "\n")
    else:
        cells = ((row.probe, row.result, row.detail) for row in rows)
        sys.stdout.write(page.table(("probe", "result", "detail"), cells))
    return status


def probes(settings: Settings) -> Iterator[Row]:
    """Everything that can be tried. Raises HardwareError when the card is taken, missing or lost."""
    with open_card(settings) as card:
        sight = Sight(card, settings)
        yield from _identity(card, sight)
        yield from _memory(card, sight)
        yield from _transfers(card)
        usable = [model for model in scan(settings).models if model.problem is None]
        # Language models last: some SDKs lose the card when another graph is loaded after their layers.
        for model in sorted(usable, key=lambda model: model.kind == JobKind.CHAT):
            yield from (_language_model if model.kind == JobKind.CHAT else _whole_graphs)(card, sight, model)


class Sight:
    """The card seen from outside, as the monitor sees it: what its own account says may be wrong."""

    def __init__(self, card: Card, settings: Settings) -> None:
        self._card = card
        self._settings = settings

    def reading(self) -> Reading:
        return Sensors().read(self._settings, self._card.info)

    def free_bytes(self) -> int:
        told = None if self._card.info.is_virtual else self.reading().memory
        return (told or self._card.memory()).free_bytes


def _identity(card: Card, sight: Sight) -> Iterator[Row]:
    info, traits = card.info, card.traits
    yield Row("card", info.name, f"{info.id} at {info.bus_id}, {info.firmware}")
    yield Row("driven by", f"rows {traits.kv_write}, prompts {traits.prefill}", "until a probe says better")
    reading = sight.reading()
    told = reading.temperature_c
    yield Row("health", "not told" if told is None else f"{told:.0f} °C", f"npu {reading.npu_percent} %")


def _memory(card: Card, sight: Sight) -> Iterator[Row]:
    before, free_bytes = card.memory(), sight.free_bytes()
    told = f"{before.free_bytes / MIB:.0f} of {before.total_bytes / MIB:.0f} MiB free"
    yield Row("memory", told)
    buffer = card.allocate(MIB)
    with closing(buffer):
        is_zero = not np.frombuffer(buffer.read(0, MIB), np.uint8).any()
        pattern = np.arange(MIB // 4, dtype=np.uint32)
        buffer.write(pattern)
        is_kept = buffer.read(0, MIB) == pattern.tobytes()
    yield Row("fresh memory is zero", _yes(is_zero))
    yield Row("what was written is read", _yes(is_kept), "1 MiB up and down")
    yield Row("freed memory is free", *_returned(sight, free_bytes))


def _transfers(card: Card) -> Iterator[Row]:
    sizes = {"4 B": 4, "5 KiB": 5120, "300 KiB": 303872, "16 MiB": 16 * MIB}
    largest = max(sizes.values())
    with closing(card.allocate(largest)) as one, closing(card.allocate(largest)) as two:
        for name, size in sizes.items():
            data = np.zeros(size, np.uint8)
            ways: dict[str, Callable[[], object]] = {
                "up": lambda data=data: one.write(data),  # type: ignore[misc]  # bound here and now
                "down": lambda data=data: one.read_into(data),  # type: ignore[misc]
                "on the card": lambda size=size: _copy(one, two, size),  # type: ignore[misc]
            }
            told = {way: _median_s(act, ROUNDS if size < MIB else 3) for way, act in ways.items()}
            detail = ", ".join(f"{way} {_rate(size, took)}" for way, took in told.items() if size >= MIB)
            yield Row(
                f"transfer of {name}", ", ".join(f"{way} {_ms(took)}" for way, took in told.items()), detail
            )


@contextmanager
def _heeding_signals() -> Iterator[list[int]]:
    """Who dies inside a call may take the card along: Ctrl-C is noted, and heeded between two probes."""
    told: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: told.append(number))
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _graphs(model: Model) -> tuple[Path, ...]:
    directory = Path(model.directory)
    if model.kind == JobKind.EMBED:
        return (find_encoder(directory, read_manifest(directory)).graph,)
    return find_pictures(directory).variants[0].graphs


def _whole_graphs(card: Card, sight: Sight, model: Model) -> Iterator[Row]:
    """A model of pictures or of vectors: each of its graphs loaded, and run by itself."""
    free_bytes = sight.free_bytes()
    for path in _graphs(model):
        began_s = time.monotonic()
        with closing(card.load(path)) as graph:
            loaded_s = time.monotonic() - began_s
            group = graph.groups[0]
            feeds = {spec.name: np.zeros(spec.shape, spec.numpy_dtype) for spec in group.inputs}
            took_s = _median_s(lambda graph=graph, feeds=feeds: graph.run(feeds, timeout_s=RUN_LIMIT_S), 2)  # type: ignore[misc]
            shapes = ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in group.outputs)
            yield Row(f"{model.id}: {path.stem}", f"load {loaded_s:.1f} s, run {_ms(took_s)}", shapes)
    yield Row(f"{model.id}: memory came back", *_returned(sight, free_bytes))


def _language_model(card: Card, sight: Sight, model: Model) -> Iterator[Row]:
    free_bytes, began_s = sight.free_bytes(), time.monotonic()
    try:
        network = _loaded(card, Path(model.directory))
    except (CardLost, CardTimeout):
        raise
    except (HardwareError, PackageProblem, OSError) as error:
        yield Row(f"{model.id}: load", "failed", f"{type(error).__name__}: {error}")
        return
    with closing(network):
        took_s = time.monotonic() - began_s
        taken = free_bytes - sight.free_bytes()
        estimate = f"{model.needs_basis} before: {(model.needs_bytes or 0) / MIB:.0f} MiB"
        yield Row(f"{model.id}: load", f"{took_s:.1f} s, {taken / MIB:.0f} MiB", estimate)
        found = probe(network)
        yield Row(f"{model.id}: rows in place", _yes(found.kv_write == "row"), _why(found.problems, "rows"))
        yield Row(
            f"{model.id}: prompts by chunks", _yes(found.prefill == "chunk"), _why(found.problems, "chunks")
        )
        network.drive(found.kv_write, found.prefill)
        yield _steps(card, network, model)
    yield Row(f"{model.id}: memory came back", *_returned(sight, free_bytes))


def _loaded(card: Card, directory: Path) -> Network:
    steps = Network.load(card, find_package(directory))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            network: Network = end.value
            return network


def _steps(card: Card, network: Network, model: Model) -> Row:
    before, began_s = card.counters.copy(), time.monotonic()
    for position in range(STEPS):
        network.decoder.forward(position, position)
    token_s, counters = (time.monotonic() - began_s) / STEPS, card.counters
    up, down = counters.h2d_bytes - before.h2d_bytes, counters.d2h_bytes - before.d2h_bytes
    calls = counters.h2d_calls + counters.d2h_calls - before.h2d_calls - before.d2h_calls
    graphs = len(network.geometry.layers) + 1
    detail = f"{graphs} graphs, {up // STEPS:,} B up, {down // STEPS:,} B down, {calls // STEPS} transfers"
    return Row(f"{model.id}: a token", _ms(token_s), detail)


def _returned(sight: Sight, free_bytes: int) -> tuple[str, str]:
    deadline_s = time.monotonic() + RETURNED_S
    while (missing := free_bytes - sight.free_bytes()) > 0 and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return _yes(missing <= 0), "" if missing <= 0 else f"{missing / MIB:.0f} MiB did not come back"


def _copy(source: Buffer, target: Buffer, size_bytes: int) -> None:
    target.copy_from(source.view(0, size_bytes))


def _median_s(act: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        act()
        took.append(time.perf_counter() - began_s)
    return statistics.median(took)


def _why(problems: tuple[str, ...], about: str) -> str:
    return "; ".join(problem.partition(": ")[2] for problem in problems if problem.startswith(about))


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "NO"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def _rate(size_bytes: int, seconds: float) -> str:
    return f"{size_bytes / seconds / 1e6:.0f} MB/s"
