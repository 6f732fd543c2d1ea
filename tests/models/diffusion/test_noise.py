from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.noise import MAX_SEED, TorchNoise
from tests.golden.diffusion import ARRAYS, NOISE_SHAPES, SEEDS, SHOWN


@pytest.mark.parametrize("seed", SEEDS)
def test_every_draw_of_a_stream_is_what_torch_draws(seed: int) -> None:
    noise = TorchNoise(seed)
    draws = [noise.normal(shape).reshape(-1) for shape in NOISE_SHAPES]
    shown = np.concatenate([part for draw in draws for part in (draw[:SHOWN], draw[-SHOWN:])])
    expected = np.load(ARRAYS)[f"noise.{seed}"]
    assert shown.dtype == np.float32
    assert shown.shape == expected.shape
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (15,), (16,), (17,), (2, 3, 5), (1, 4, 8, 8), ()])
def test_draws_have_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    assert TorchNoise(1).normal(shape).shape == shape


def test_a_picture_of_a_batch_is_the_one_its_own_seed_makes() -> None:
    assert not np.array_equal(TorchNoise(5).normal((64,)), TorchNoise(6).normal((64,)))
    assert np.array_equal(TorchNoise(6).normal((64,)), TorchNoise(6).normal((64,)))


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_seeds_that_would_double_another_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 4294967295"):
        TorchNoise(seed)


@given(st.integers(0, MAX_SEED), st.integers(16, 400))
def test_noise_is_finite_and_plausible_for_any_seed(seed: int, count: int) -> None:
    values = TorchNoise(seed).normal((count,))
    assert np.isfinite(values).all()
    assert abs(values).max() < 6  # the largest radius that 24 bits allow is 5.77
