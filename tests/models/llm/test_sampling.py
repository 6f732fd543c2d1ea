"""The sampler against a plain softmax written here."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.llm.sampling import Sampler, uniform
from tasks.errors import EngineError
from tasks.jobs import Sampling

DRAWS = 20_000


def bf16(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    return values.astype(ml_dtypes.bfloat16).view(np.uint16)


def logits(vocab: int, spread: float = 3.0, seed: int = 1) -> NDArray[np.uint16]:
    return bf16(np.random.default_rng(seed).normal(0, spread, vocab))


def softmax(raw: NDArray[np.uint16], temperature: float) -> NDArray[np.float64]:
    values = raw.view(ml_dtypes.bfloat16).astype(np.float64) / temperature
    weights = np.exp(values - values.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def expected(raw: NDArray[np.uint16], sampling: Sampling) -> NDArray[np.float64]:
    """What each token's probability should be, by sorting everything."""
    plain = softmax(raw, sampling.temperature)
    order = np.lexsort((np.arange(len(plain)), -plain))
    if sampling.top_k:
        order = order[: sampling.top_k]
    sums = np.cumsum(plain[order]) / plain[order].sum()
    order = order[: int(np.searchsorted(sums, sampling.top_p)) + 1]
    kept = np.zeros_like(plain)
    kept[order] = plain[order]
    shares: NDArray[np.float64] = kept / kept.sum()
    return shares


def chi_square_bound(freedom: int) -> float:
    """What chi-square of ``freedom`` degrees exceeds once in a million. Source: Wilson and Hilferty, 1931."""
    return freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=7, temperature=1.0),
        Sampling(seed=8, temperature=0.5),
        Sampling(seed=9, temperature=1.7, top_k=20),
        Sampling(seed=10, temperature=1.0, top_p=0.9),
        Sampling(seed=11, temperature=0.9, top_k=30, top_p=0.8),
    ],
    ids=["plain", "cold", "top-k", "top-p", "both"],
)
def test_tokens_come_as_often_as_softmax_says(sampling: Sampling) -> None:
    raw = logits(200, 2.0)
    choose = Sampler(200).chooser(sampling)
    counts = np.bincount([choose(raw, position) for position in range(DRAWS)], minlength=200)
    wanted = expected(raw, sampling) * DRAWS
    assert counts[wanted == 0].sum() == 0
    common = wanted >= 5
    observed = np.append(counts[common], counts[~common].sum())
    should = np.append(wanted[common], wanted[~common].sum())
    observed, should = observed[should > 0], should[should > 0]
    statistic = float(((observed - should) ** 2 / should).sum())
    assert statistic < chi_square_bound(len(should) - 1)


@pytest.mark.parametrize("vocab", [5, 64, 300, 5000, 151_936])
@pytest.mark.parametrize("top_k", [1, 2, 20, 64, 500])
def test_top_k_keeps_exactly_the_k_largest(vocab: int, top_k: int) -> None:
    raw = logits(vocab)
    sampling = Sampling(seed=1, temperature=1.0, top_k=top_k)
    ids, _ = Sampler(vocab).candidates(raw, sampling)
    assert set(ids) == set(np.flatnonzero(expected(raw, sampling)))


@pytest.mark.parametrize("spread", [0.01, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.8, 0.95, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_p(spread: float, top_p: float) -> None:
    raw = logits(5000, spread)
    sampling = Sampling(seed=1, temperature=1.0, top_p=top_p)
    ids, probabilities = Sampler(5000).candidates(raw, sampling)
    plain = softmax(raw, 1.0)
    assert np.array_equal(ids, np.lexsort((np.arange(5000), -plain))[: len(ids)])
    assert plain[ids].sum() >= top_p - 1e-6
    assert plain[ids[:-1]].sum() <= top_p + 1e-6
    np.testing.assert_allclose(probabilities, plain[ids] / plain[ids].sum(), rtol=1e-5)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=200), st.integers(1, 220))
def test_equal_logits_rank_by_token_id(values: list[int], top_k: int) -> None:
    raw = bf16(np.array(values, np.float64))
    ids, _ = Sampler(len(values)).candidates(raw, Sampling(seed=1, temperature=1.0, top_k=top_k))
    assert list(ids) == sorted(range(len(values)), key=lambda token: (-values[token], token))[:top_k]


@pytest.mark.parametrize("sampling", [Sampling(seed=1, temperature=0.0), Sampling(seed=1, top_k=1)])
def test_greedy_takes_the_first_of_the_largest(sampling: Sampling) -> None:
    raw = bf16(np.array([1.0, 5.0, -2.0, 5.0]))
    assert Sampler(4).chooser(sampling)(raw, 0) == 1


def test_float_logits_are_taken_as_they_are() -> None:
    raw = np.array([0.0, 1.0, 1.0001], np.float32)
    assert Sampler(3).chooser(Sampling(seed=1, temperature=0.0))(raw, 0) == 2


@given(st.integers(-(2**70), 2**70), st.integers(0, 1 << 20))
def test_the_draw_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    assert uniform(seed, position) == uniform(seed, position)
    assert 0 <= uniform(seed, position) < 1


def test_neighbouring_seeds_and_positions_draw_differently() -> None:
    draws = {uniform(seed, position) for seed in range(50) for position in range(50)}
    assert len(draws) == 2500


def test_the_random_numbers_are_the_same_for_ever() -> None:
    assert [uniform(42, position) for position in range(3)] == [
        0.8201981478608876,
        0.36812845090913937,
        0.8767979674463799,
    ]


def test_one_sampler_serves_jobs_of_different_options_in_turn() -> None:
    raw, sampler = logits(1000), Sampler(1000)
    greedy = sampler.chooser(Sampling(seed=1, temperature=0.0))
    warm = sampler.chooser(Sampling(seed=1, temperature=1.0, top_p=0.99))
    first = [(greedy(raw, position), warm(raw, position)) for position in range(20)]
    again = [(greedy(raw, position), warm(raw, position)) for position in range(20)]
    assert first == again


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_the_job(bad: float, temperature: float) -> None:
    raw = bf16(np.array([0.0, bad, 1.0]))
    with pytest.raises(EngineError, match="not numbers"):
        Sampler(3).chooser(Sampling(seed=1, temperature=temperature))(raw, 0)
