"""``hearth bench prefix``: what it saves to keep the rows of a long system prompt on the card.

A model of random weights with real arithmetic (4 layers, a context of 2,047 tokens, chunks of 128 behind 0 to
1,024 rows) is asked again and again with the same 1,000 tokens before a new question of 16 to 64 tokens.
Three ways take turns: reuse to the row; reuse rounded down to whole chunks, as the vendor's runner does it;
and no reuse at all. Measured is the time from the ids to the logits of the first token, and the executes it
took; the median over all rounds counts for the time, the mean for the executes. The same bits come out of all
three.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from bench.report import Row, arguments, quantile, tell
from config.groups import VirtualCardSettings
from demo.checkpoint import Architecture, Checkpoint
from demo.llm_graphs import Compute, layer_groups, layer_model, post_model
from hardware.virtual.card import VirtualCard
from models.llm.cache import ConversationCache
from models.llm.context import Context, Ready
from models.llm.network import Network
from models.llm.plan import MeasuredCosts
from tasks.engines import Verdict

CHUNK, HISTORIES, KV_LENGTH = 128, range(0, 1025, 128), 2047
SYSTEM = 1000
QUESTIONS = (16, 32, 48, 64)
ROUNDS, WARM_UP = 12, 4
SLOTS = 4

ARCHITECTURE = Architecture(
    family="qwen3",
    vocab=1024,
    hidden=256,
    layers=4,
    heads=4,
    kv_heads=2,
    head_size=64,
    inner=512,
    rope_theta=10_000.0,
    epsilon=1e-6,
    is_tied=True,
)


class NoSignals:
    """Nobody interrupts a benchmark."""

    def between_steps(self) -> Verdict:
        return Verdict.GO_ON

    def calling_card(self, limit_s: float) -> nullcontext[None]:
        return nullcontext()


class WholeChunks(ConversationCache):
    """Keeps whole chunks only."""

    def open(self, ids: Sequence[int], asked: int) -> int:
        kept = super().open(ids, asked)
        self.cut(kept - kept % CHUNK)
        return kept - kept % CHUNK


class Nothing(ConversationCache):
    """Keeps nothing."""

    def open(self, ids: Sequence[int], asked: int) -> int:
        self.forget()
        return super().open(ids, asked)


WAYS: Mapping[str, type[ConversationCache]] = {"row": ConversationCache, "chunk": WholeChunks, "off": Nothing}


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="questions asked of each way (%(default)s)"
    )
    options = parser.parse_args(argv)
    figures = measure(options.rounds, WARM_UP)
    picture = tell("prefix", _rows(figures), figures, as_json=options.json, out=options.out)
    draw(figures, picture)
    return 0


def measure(rounds: int, warm_up: int) -> dict[str, Any]:
    """First-token milliseconds and executes of the three ways."""
    generator = np.random.default_rng(7)
    system = _tokens(generator, SYSTEM)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    executes: dict[str, list[int]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as place, _networks(Path(place)) as networks:
        contexts = {name: _context(WAYS[name], network) for name, network in networks.items()}
        for number in range(-warm_up, rounds):
            asked = system + _tokens(generator, QUESTIONS[number % len(QUESTIONS)])
            said = set()
            for name, context in contexts.items():
                taken_s, ran, logits = _ask(context, networks[name].card.counters, asked)
                said.add(logits)
                if number >= 0:
                    times[name].append(taken_s * 1000)
                    executes[name].append(ran)
            if len(said) != 1:
                raise RuntimeError("the three ways do not agree on the first token's logits")
    return {
        "first_token_ms": {name: round(quantile(taken, 0.5), 3) for name, taken in times.items()},
        "executes": {name: round(sum(ran) / len(ran), 2) for name, ran in executes.items()},
        "prompt_tokens": {"system": SYSTEM, "question": list(QUESTIONS)},
    }


def _ask(context: Context, counters: Any, asked: list[int]) -> tuple[float, int, bytes]:
    before = counters.executes
    began_s = time.perf_counter()
    ready = context.bring(asked, [], NoSignals())
    taken_s = time.perf_counter() - began_s
    if not isinstance(ready, Ready):
        raise RuntimeError("interrupted")
    return taken_s, counters.executes - before, ready.logits.tobytes()


def _tokens(generator: np.random.Generator, count: int) -> list[int]:
    return [int(token) for token in generator.integers(0, ARCHITECTURE.vocab, count)]


def _context(kind: type[ConversationCache], network: Network) -> Context:
    return Context(network, kind(network, SLOTS, reserve_bytes=0), MeasuredCosts(step_s=0.01))


@contextmanager
def _networks(place: Path) -> Iterator[dict[str, Network]]:
    """The model once for each way, on one card."""
    layers, post, embedding = _write(place)
    with VirtualCard(place / "card", VirtualCardSettings()) as card:
        yield {
            name: Network(card, [card.load(path) for path in layers], card.load(post), embedding)
            for name in WAYS
        }


def _write(place: Path) -> tuple[list[Path], Path, Path]:
    checkpoint = Checkpoint(place, ARCHITECTURE, {}, _weights(ARCHITECTURE))
    groups = layer_groups(ARCHITECTURE, KV_LENGTH, CHUNK, HISTORIES)
    layers = [place / f"layer{layer}.axmodel" for layer in range(ARCHITECTURE.layers)]
    for layer, path in enumerate(layers):
        onnx.save(layer_model(checkpoint, layer, groups, Compute.F64), path)
    post, embedding = place / "post.axmodel", place / "embedding.bin"
    onnx.save(post_model(checkpoint), post)
    embedding.write_bytes(checkpoint.matrix("model.embed_tokens.weight").tobytes())
    return layers, post, embedding


def _weights(a: Architecture) -> dict[str, Any]:
    wide, narrow = a.heads * a.head_size, a.kv_heads * a.head_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (a.vocab, a.hidden)}
    norms = {"model.norm.weight": a.hidden}
    for layer in range(a.layers):
        at = f"model.layers.{layer}."
        shapes[f"{at}self_attn.q_proj.weight"] = (wide, a.hidden)
        shapes[f"{at}self_attn.k_proj.weight"] = (narrow, a.hidden)
        shapes[f"{at}self_attn.v_proj.weight"] = (narrow, a.hidden)
        shapes[f"{at}self_attn.o_proj.weight"] = (a.hidden, wide)
        shapes[f"{at}mlp.gate_proj.weight"] = (a.inner, a.hidden)
        shapes[f"{at}mlp.up_proj.weight"] = (a.inner, a.hidden)
        shapes[f"{at}mlp.down_proj.weight"] = (a.hidden, a.inner)
        norms |= {f"{at}self_attn.{part}_norm.weight": a.head_size for part in "qk"}
        norms |= {f"{at}{part}_layernorm.weight": a.hidden for part in ("input", "post_attention")}
    generator = np.random.default_rng(11)
    weights: dict[str, Any] = {name: np.ones(size, ml_dtypes.bfloat16) for name, size in norms.items()}
    for name, shape in shapes.items():
        weights[name] = (generator.normal(size=shape) / shape[-1] ** 0.5).astype(ml_dtypes.bfloat16)
    return weights


def _rows(figures: Mapping[str, Any]) -> list[Row]:
    names = {"row": "reuse to the row", "chunk": "reuse of whole chunks", "off": "no reuse"}
    rows = [
        Row(f"{said}: first token", figures["first_token_ms"][name], "ms") for name, said in names.items()
    ]
    rows += [Row(f"{said}: executes", figures["executes"][name], "") for name, said in names.items()]
    times = figures["first_token_ms"]
    rows.append(Row("reuse to the row is faster than none by", times["off"] / times["row"], "times"))
    rows.append(
        Row("reuse to the row is faster than whole chunks by", times["chunk"] / times["row"], "times")
    )
    return rows


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Time and executes of the three ways."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, every = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    titles = {"first_token_ms": "ms to the first token's logits", "executes": "executes"}
    for axes, (key, title) in zip(every, titles.items(), strict=True):
        bars = axes.bar(
            ["to the row", "whole chunks", "off"], list(figures[key].values()), color=["C0", "C1", "C7"]
        )
        axes.bar_label(bars, fmt="{:,.3g}", fontsize=8)
        axes.margins(y=0.12)
        axes.set_title(title, fontsize=10)
    figure.suptitle(f"{SYSTEM:,} tokens asked again with a new question")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
