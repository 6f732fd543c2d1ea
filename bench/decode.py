"""``hearth bench decode``: what a token costs around the graphs, with the geometry of Qwen3-4B.

The graphs compute nothing, so the host's part is what is left to see: bytes and calls over the bus, executes,
and the time a token takes outside the graphs. That time is, for each token, the wall clock from its id to its
logits in host memory minus what the card's own counter says was spent in executes; the median counts, because
a busy machine interrupts some tokens and not others. Choosing the token is left out: ``hearth bench sample``
measures it. Three loops take turns in one run: ours with K/V rows written in place, ours with rows copied on
the card, and one in the stock style, which sends every input up and brings every output down for every layer.

``--card axcl`` goes through the vendor's interface instead: a simulated libaxcl_rt.so, built for the purpose,
whose own clock and counters tell what is spent inside it; or the library of HEARTH_AXCL__LIBRARY. With
``--timing pi5`` transfers and executes take as long as on a Raspberry Pi 5, so that tokens per second can be
compared; weights stream in no time, so these are bounds, not promises.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.cards import CARDS, TIMINGS, Meter, open_card
from bench.report import Row, arguments, at_most, quantile, tell
from bench.synthetic import QWEN3_4B, Measures, load, write_graphs
from hardware.card import Array, Buffer, Card, Counters, Graph, KvWrite, Step
from models.llm.memory import BLOCKED, VISIBLE, open_embedding

TOKENS, REFERENCE_TOKENS, WARM_UP = 400, 6, 3
BLOCK = 50
"""Tokens in a row of each of our two ways before the other takes its turn."""

Forward = Callable[[int, int], Any]


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens of each of our ways (%(default)s)")
    parser.add_argument("--card", choices=CARDS, default="virtual", help="what runs it (%(default)s)")
    parser.add_argument("--timing", choices=TIMINGS, default="none", help="what calls cost (%(default)s)")
    options = parser.parse_args(argv)
    figures = measure(QWEN3_4B, options.tokens, kind=options.card, timing=options.timing)
    name = "decode" if options.card == "virtual" else f"decode-{options.card}"
    name += "" if options.timing == "none" else f"-{options.timing}"
    picture = tell(name, _rows(figures), figures, as_json=options.json, out=options.out)
    draw(figures, picture)
    return 0


def measure(
    measures: Measures,
    tokens: int,
    reference_tokens: int = REFERENCE_TOKENS,
    *,
    kind: str = "virtual",
    timing: str = "none",
) -> dict[str, Any]:
    """The figures of all three ways."""
    with tempfile.TemporaryDirectory() as place, open_card(kind, timing, Path(place)) as (card, meter):
        paths = write_graphs(measures, Path(place))
        network = load(card, measures, paths)
        loop = StockLoop(card, measures, card.load(paths[0]), card.load(paths[1]), paths[2])
        row, copy, reference = (_Tally(meter, is_modelled=timing != "none") for _ in range(3))
        ours = network.decoder.forward
        for start in range(-WARM_UP, tokens, BLOCK):
            for tally, kv_write in ((row, KvWrite.ROW), (copy, KvWrite.COPY)):
                network.drive(kv_write, card.traits.prefill)
                tally.take(ours, range(start, min(start + BLOCK, tokens)))
        reference.take(loop.forward, range(-1, reference_tokens))
        figures: dict[str, Any] = {**row.figures()}
        figures |= {"reference": reference.figures(), "copy": copy.figures(), "tokens": tokens}
        network.close()
        return figures


class _Tally:
    """What the tokens of one way have cost. Those at negative positions warm up and do not count."""

    def __init__(self, meter: Meter, *, is_modelled: bool) -> None:
        self._meter = meter
        self._is_modelled = is_modelled
        self._wall_s: list[float] = []
        self._host_s: list[float] = []
        self._totals = dict.fromkeys(("h2d_bytes", "d2h_bytes", "d2d_bytes", "bus_calls", "executes"), 0)

    def take(self, forward: Forward, positions: range) -> None:
        for position in positions:
            before = self._meter()
            began_s = time.perf_counter()
            forward(abs(position) % 100, max(position, 0))
            wall_s = time.perf_counter() - began_s
            if position >= 0:
                self._count(before, self._meter(), wall_s)

    def _count(self, before: Counters, after: Counters, wall_s: float) -> None:
        self._wall_s.append(wall_s)
        self._host_s.append(wall_s - (after.busy_s - before.busy_s))
        for name in ("h2d_bytes", "d2h_bytes", "d2d_bytes", "executes"):
            self._totals[name] += getattr(after, name) - getattr(before, name)
        for name in ("h2d_calls", "d2h_calls", "d2d_calls"):
            self._totals["bus_calls"] += getattr(after, name) - getattr(before, name)

    def figures(self) -> dict[str, float]:
        count = len(self._wall_s)
        figures = {f"{name}_per_token": total / count for name, total in self._totals.items()}
        figures["host_ms_per_token"] = round(quantile(self._host_s, 0.5) * 1000, 4)
        # Modelled waits are saved up: sums are right then, and single tokens are not.
        typical_s = sum(self._wall_s) / count if self._is_modelled else quantile(self._wall_s, 0.5)
        figures["tokens_per_s"] = round(1 / typical_s, 2)
        return figures


class StockLoop:
    """The usual Python loop of NPU demos: for every layer inputs go up, the graph runs, outputs come down.

    All layers share one pair of K/V on either side, which is kinder to the caches of the processor than the
    real thing; bytes and calls are the same.
    """

    def __init__(self, card: Card, measures: Measures, layer: Graph, post: Graph, embedding: Path) -> None:
        self._card = card
        self._layers = measures.layers
        self._embedding = open_embedding(embedding, measures.hidden)
        self._layer = _Staged(card, layer)
        self._post = _Staged(card, post)

    def forward(self, token: int, position: int) -> Array:
        feeds = self._layer.host
        feeds["mask"][:] = BLOCKED
        feeds["mask"][..., :position] = feeds["mask"][..., -1] = VISIBLE
        feeds["indices"][:] = position
        hidden = self._embedding[token]
        for _ in range(self._layers):
            feeds["input"][:] = hidden
            made = self._layer.run(self._card)
            feeds["K_cache"][0, position] = made["K_cache_out"][0, 0]
            feeds["V_cache"][0, position] = made["V_cache_out"][0, 0]
            hidden = made["output"]
        self._post.host["input"][:] = hidden
        return self._post.run(self._card)["output"]


class _Staged:
    """A graph with a buffer and a host array for every tensor."""

    def __init__(self, card: Card, graph: Graph) -> None:
        group = graph.groups[0]
        specs = (*group.inputs, *group.outputs)
        self.host: dict[str, Array] = {
            spec.name: np.zeros(spec.shape, np.uint16 if spec.dtype == "bf16" else spec.numpy_dtype)
            for spec in specs
        }
        self._buffers: dict[str, Buffer] = {spec.name: card.allocate(spec.size_bytes) for spec in specs}
        views = {name: buffer.view() for name, buffer in self._buffers.items()}
        self._inputs = [spec.name for spec in group.inputs]
        self._outputs = [spec.name for spec in group.outputs]
        self._step: Step = graph.bind(
            0, {name: views[name] for name in self._inputs}, {name: views[name] for name in self._outputs}
        )

    def run(self, card: Card) -> Mapping[str, Array]:
        for name in self._inputs:
            self._buffers[name].write(self.host[name])
        card.execute([self._step], timeout_s=30)
        for name in self._outputs:
            self._buffers[name].read_into(self.host[name])
        return self.host


def _rows(figures: Mapping[str, Any]) -> list[Row]:
    copy, reference = figures["copy"], figures["reference"]
    layers = QWEN3_4B.layers
    rows = [
        at_most("bytes up", figures["h2d_bytes_per_token"], "B", 11_000),
        at_most("bytes down", figures["d2h_bytes_per_token"], "B", 310_000),
        at_most("bytes from card to card", figures["d2d_bytes_per_token"], "B", 0),
        at_most("calls over the bus beyond executes", figures["bus_calls_per_token"], "", 6),
        at_most("executes", figures["executes_per_token"], "", layers + 1),
        at_most("host time outside the graphs", figures["host_ms_per_token"], "ms", 1.5),
        Row("tokens by graphs that do nothing", figures["tokens_per_s"], "/s"),
        at_most("copied rows: bytes from card to card", copy["d2d_bytes_per_token"], "B", 147_456),
        at_most("copied rows: calls beyond executes", copy["bus_calls_per_token"], "", 78),
        Row("copied rows: host time", copy["host_ms_per_token"], "ms"),
    ]
    for name, unit in (
        ("h2d_bytes", "B"),
        ("d2h_bytes", "B"),
        ("bus_calls", ""),
        ("host_ms", "ms"),
    ):
        rows.append(Row(f"stock style: {name.replace('_', ' ')}", reference[f"{name}_per_token"], unit))
    rows.append(Row("stock style: tokens by graphs that do nothing", reference["tokens_per_s"], "/s"))
    return rows


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Bytes up, calls and host time of the three ways, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ways = {"in place": figures, "copied": figures["copy"], "stock style": figures["reference"]}
    panels = {
        "h2d_bytes_per_token": "bytes up per token",
        "bus_calls_per_token": "calls over the bus",
        "host_ms_per_token": "host ms per token",
    }
    figure, every = plt.subplots(1, len(panels), figsize=(10, 3.6), layout="constrained")
    for axes, (key, title) in zip(every, panels.items(), strict=True):
        bars = axes.bar(list(ways), [way[key] for way in ways.values()], color=["C0", "C1", "C7"])
        axes.bar_label(bars, fmt="{:,.3g}", fontsize=8)
        axes.set_yscale("log")
        axes.margins(y=0.15)
        axes.set_title(title, fontsize=10)
    figure.suptitle("One token of Qwen3-4B's geometry, graphs that do no arithmetic")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
