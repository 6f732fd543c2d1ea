"""``hearth bench sample``: what choosing a token costs, beside the usual ways, over the vocabulary of Qwen3.

Measured is the CPU time of the calling thread: all ways take turns over the same logits in one run, and the
median counts, so that a busy machine disturbs all of them alike. The logits change from token to token, as
they do in use, and every way finds the caches as the others left them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bench.report import Row, arguments, at_most, quantile, tell
from models.llm.sampler import History, SamplerOptions, Uniform, make_sampler

VOCAB = 151_936
PROMPT = 400
"""Ids that the repetition penalty concerns."""
TOKENS, SLOW_TOKENS, WARM_UP = 300, 40, 5
KINDS = {"": 6.0, "sigma_3": 3.0, "flat": 0.0}
"""Name in the figures → standard deviation of the normal logits; 0: all are equal."""
NUCLEUS_P = 0.9

Logits = NDArray[Any]
Way = Callable[[Logits, int], int]


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(str(__doc__).splitlines()[0]).parse_args(argv)
    measured = {name: measure(sigma) for name, sigma in KINDS.items()}
    figures: dict[str, Any] = {**measured[""], "uniform_cpu_us": _uniform_us()}
    figures.update({name: values for name, values in measured.items() if name})
    picture = tell("sample", _rows(figures), figures, as_json=options.json, out=options.out)
    draw(measured, picture)
    return 0


def measure(sigma: float) -> dict[str, float]:
    """Median CPU milliseconds per token of every way, over logits of this standard deviation."""
    generator = np.random.default_rng(6)
    # Eight sets of logits are more than a core's second-level cache holds.
    logits = [(generator.normal(size=VOCAB) * sigma).astype(ml_dtypes.bfloat16) for _ in range(8)]
    prompt = generator.choice(VOCAB, PROMPT, replace=False)
    ways = _ways(prompt.tolist())
    slow = {"nucleus_sort_cpu_ms_per_token", "reference_cpu_ms_per_token"}
    spent: dict[str, list[int]] = {name: [] for name in ways}
    for position in range(-WARM_UP, TOKENS):
        for name, way in ways.items():
            if name in slow and position >= SLOW_TOKENS:
                continue
            started = time.thread_time_ns()
            way(logits[position % len(logits)], position + WARM_UP)
            if position >= 0:
                spent[name].append(time.thread_time_ns() - started)
    return {name: round(quantile(times, 0.5) / 1e6, 4) for name, times in spent.items()}


def _ways(prompt: list[int]) -> dict[str, Way]:
    """The ways of choosing a token, under the names of their figures."""
    qwen = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}
    return {
        "cpu_ms_per_token": _hearth(prompt, repetition_window=PROMPT, **qwen),
        "nucleus_cpu_ms_per_token": _hearth(prompt, temperature=1.0, top_p=NUCLEUS_P),
        "greedy_cpu_ms_per_token": _hearth(prompt, temperature=0.0),
        "plain_cpu_ms_per_token": _hearth(prompt, temperature=1.0),
        "logprobs_cpu_ms_per_token": _hearth(prompt, logprobs=20, **qwen),
        "everything_cpu_ms_per_token": _hearth(
            prompt,
            temperature=0.8,
            top_p=0.95,
            min_p=0.01,
            typical_p=0.9,
            repetition_penalty=1.1,
            frequency_penalty=0.2,
            presence_penalty=0.1,
            logit_bias={5: 1.0, 7: -100.0},
            logprobs=20,
        ),
        "nucleus_sort_cpu_ms_per_token": _sorting_nucleus,
        "reference_cpu_ms_per_token": _usual(prompt),
    }


def _hearth(prompt: list[int], **options: Any) -> Way:
    sampler = make_sampler(SamplerOptions(seed=1, **options), VOCAB)
    history = History(prompt)

    def choose(logits: Logits, position: int) -> int:
        token = sampler(logits, position, history).token_id
        history.append(token)
        return token

    return choose


def _sorting_nucleus(logits: Logits, position: int) -> int:
    """The vectorised nucleus of most numpy samplers: argsort the vocabulary, softmax, running sum, draw."""
    values = logits.astype(np.float32)
    order = np.argsort(-values)
    weights = np.exp(values[order] - values[order[0]])
    sums = np.cumsum(weights / weights.sum())
    kept = sums[: int(np.searchsorted(sums, NUCLEUS_P)) + 1]
    number = np.random.default_rng((1, position)).random()
    return int(order[int(np.searchsorted(kept, number * kept[-1]))])


def _usual(prompt: list[int]) -> Way:
    """The usual Python sampler of NPU demos: a loop over the penalised ids, argpartition, softmax, top-p."""

    def choose(logits: Logits, position: int) -> int:
        values = logits.astype(np.float32).flatten()
        for token in prompt:
            values[token] = values[token] * 1.1 if values[token] < 0 else values[token] / 1.1
        best = np.argpartition(values, -20)[-20:]
        best = best[np.argsort(-values[best])]
        weights = np.exp((values[best] - values[best[0]]) / 0.7)
        weights /= weights.sum()
        kept = int(np.searchsorted(np.cumsum(weights), 0.8)) + 1
        shares = weights[:kept].astype(np.float64)
        return int(np.random.default_rng((1, position)).choice(best[:kept], p=shares / shares.sum()))

    return choose


def _uniform_us() -> float:
    uniform = Uniform(1)
    spent = []
    for position in range(1000):
        started = time.thread_time_ns()
        uniform(position)
        spent.append(time.thread_time_ns() - started)
    return round(quantile(spent, 0.5) / 1e3, 2)


def _rows(figures: Mapping[str, Any]) -> list[Row]:
    sort, nucleus = figures["nucleus_sort_cpu_ms_per_token"], figures["nucleus_cpu_ms_per_token"]
    rows = [
        at_most("top-k 20, top-p 0.8, penalty over 400 ids", figures["cpu_ms_per_token"], "ms", 0.5),
        at_most(f"top-p {NUCLEUS_P} alone", nucleus, "ms", 1.0),
        Row("  a full sort takes longer by", sort / nucleus, "times", "≥ 4", sort / nucleus >= 4),
        at_most("greedy", figures["greedy_cpu_ms_per_token"], "ms", 0.1),
        at_most("one random number", figures["uniform_cpu_us"], "µs", 20),
        Row("nothing but temperature", figures["plain_cpu_ms_per_token"], "ms"),
        Row("as the first, with 20 log-probabilities", figures["logprobs_cpu_ms_per_token"], "ms"),
        Row("every option at once", figures["everything_cpu_ms_per_token"], "ms"),
        Row("reference: usual Python sampler, as the first", figures["reference_cpu_ms_per_token"], "ms"),
        Row("reference: nucleus by a full sort", sort, "ms"),
    ]
    for kind, said in (("sigma_3", "σ = 3"), ("flat", "all logits equal")):
        for name, way in (("cpu", "top-k 20 …"), ("nucleus_cpu", "top-p alone"), ("greedy_cpu", "greedy")):
            rows.append(Row(f"{said}: {way}", figures[kind][f"{name}_ms_per_token"], "ms"))
    return rows


def draw(measured: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Bars of every way, one colour per kind of logits."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(measured[""])
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for place, (kind, values) in enumerate(measured.items()):
        heights = [index + 0.27 * (place - 1) for index in range(len(names))]
        label = "all equal" if kind == "flat" else f"σ = {KINDS[kind]:g}"
        bars = axes.barh(heights, [values[name] for name in names], 0.25, label=label)
        axes.bar_label(bars, fmt="%.3g", fontsize=7, padding=2)
    axes.set_yticks(
        range(len(names)), [name.removesuffix("_ms_per_token").removesuffix("_cpu") for name in names]
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"CPU ms per token, {VOCAB:,} bf16 logits")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
