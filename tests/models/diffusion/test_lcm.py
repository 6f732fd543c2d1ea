from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.diffusion import lcm
from models.diffusion.latent import SCALING_FACTOR, for_decoder, from_moments
from models.diffusion.noise import TorchNoise
from tests.golden.diffusion import (
    ANSWERS,
    ARRAYS,
    IMG2IMG_STEPS,
    LATENT,
    STRENGTHS,
    TRAJECTORY_SEED,
    TRAJECTORY_STEPS,
    epsilon,
    init_latent,
    moments,
)

ANSWER: dict[str, Any] = json.loads(ANSWERS.read_text())


def apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run(latent: lcm.Latent, schedule: tuple[int, ...], noise: TorchNoise) -> list[lcm.Latent]:
    """All that a run shows: where it begins, then estimate and latent of each step."""
    shown = [latent]
    for index in range(len(schedule)):
        step = lcm.advance(latent, epsilon(index), schedule, index, lambda: noise.normal(LATENT))
        latent = step.latent
        shown += [step.estimate, latent]
    return shown


def test_schedules_of_any_number_of_steps_are_those_of_diffusers() -> None:
    made = {str(steps): list(lcm.timesteps(steps)) for steps in range(1, 51)}
    assert made == ANSWER["timesteps"]


def test_four_steps_are_the_ones_time_inputs_are_shipped_for() -> None:
    assert lcm.timesteps(4) == (999, 759, 499, 259)


@pytest.mark.parametrize("case", ANSWER["img2img"])
def test_strength_keeps_the_end_of_the_schedule_as_in_diffusers(case: str) -> None:
    strength, steps = float(case.split(":")[0]), int(case.split(":")[1])
    expected = ANSWER["img2img"][case]
    assert lcm.kept_steps(steps, strength) == len(expected)
    if expected:
        assert list(lcm.timesteps_from(steps, strength)) == expected
    else:
        with pytest.raises(ValueError, match=r"leaves nothing of \d+ steps"):
            lcm.timesteps_from(steps, strength)


@pytest.mark.parametrize("steps", TRAJECTORY_STEPS)
def test_latents_follow_diffusers_from_noise_to_picture(steps: int) -> None:
    noise = TorchNoise(TRAJECTORY_SEED)
    made = run(noise.normal(LATENT), lcm.timesteps(steps), noise)
    expected = np.load(ARRAYS)[f"txt2img.{steps}"]
    assert len(made) == len(expected) == 1 + 2 * steps
    for found, wanted in zip(made, expected, strict=True):
        assert found.dtype == np.float32
        assert apart(found[0], wanted) < 1e-5


@pytest.mark.parametrize("strength", STRENGTHS)
def test_latents_follow_diffusers_from_picture_to_picture(strength: float) -> None:
    noise = TorchNoise(TRAJECTORY_SEED)
    schedule = lcm.timesteps_from(IMG2IMG_STEPS, strength)
    begin = lcm.add_noise(init_latent(), noise.normal(LATENT), schedule[0])
    made = run(begin, schedule, noise)
    expected = np.load(ARRAYS)[f"img2img.{strength}"]
    assert len(made) == len(expected)
    for found, wanted in zip(made, expected, strict=True):
        assert apart(found[0], wanted) < 1e-5


@pytest.mark.parametrize("timestep", ANSWER["boundary"])
def test_the_scalings_at_the_boundary_are_those_of_diffusers(timestep: str) -> None:
    assert lcm.boundary(int(timestep)) == pytest.approx(ANSWER["boundary"][timestep], rel=1e-9)


def test_what_a_model_predicts_to_be_noise_leaves_a_trace_of_its_input() -> None:
    alpha = 0.9822440071  # of timestep 19
    latent = np.full(LATENT, 1e6, dtype=np.float32)
    c_skip, _ = lcm.boundary(19)
    left = lcm.estimate(latent, latent / np.float32(np.sqrt(1 - alpha)), 19)
    assert c_skip * 1e6 == pytest.approx(6.925, rel=1e-3)
    assert left.mean() == pytest.approx(c_skip * 1e6, abs=1)


def test_an_encoded_picture_becomes_the_latent_diffusers_samples() -> None:
    noise = TorchNoise(TRAJECTORY_SEED)
    made = from_moments(moments(), noise.normal(LATENT))
    expected = np.load(ARRAYS)["posterior"]
    assert np.isfinite(made).all()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_the_decoder_gets_the_latent_unscaled_and_contiguous() -> None:
    latent = np.full((4, 12, 12, 1), SCALING_FACTOR, dtype=np.float32).transpose(3, 0, 1, 2)
    unscaled = for_decoder(latent)
    assert unscaled.flags.c_contiguous
    np.testing.assert_allclose(unscaled, 1, rtol=1e-6)


def test_noise_is_drawn_between_steps_and_not_after_the_last() -> None:
    drawn: list[int] = []

    def noise() -> lcm.Latent:
        drawn.append(1)
        return np.zeros(LATENT, dtype=np.float32)

    schedule, latent = lcm.timesteps(4), init_latent()
    steps = [lcm.advance(latent, latent, schedule, index, noise) for index in range(4)]
    assert len(drawn) == 3
    assert np.array_equal(steps[-1].latent, steps[-1].estimate)
    assert not np.array_equal(steps[0].latent, steps[0].estimate)


def test_guidance_of_one_is_the_prompt_alone_and_of_two_goes_as_far_again() -> None:
    without, prompted = epsilon(0), epsilon(1)
    np.testing.assert_allclose(lcm.guided(without, prompted, 1.0), prompted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(lcm.guided(without, prompted, 2.0), 2 * prompted - without, rtol=0, atol=1e-6)
    assert lcm.guided(without, prompted, 1.5).dtype == np.float32


@pytest.mark.parametrize("steps", [0, -1, 51, 10_000])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 50"):
        lcm.timesteps(steps)


@pytest.mark.parametrize("strength", [float("nan"), -0.1, 1.1, float("inf")])
def test_strengths_that_mean_nothing_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        lcm.kept_steps(4, strength)
