"""Ask torch and diffusers what they make of noise, schedules and latents, and write it down.

    python -m tests.golden.make_diffusion

Needs torch and diffusers, which nothing else here does. The noise that stands for a UNet's epsilon comes from
raw integers (``tests.golden.diffusion``), so that both sides can make it without each other.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import diffusers  # type: ignore[import-not-found, unused-ignore]  # in no requirements of ours
import numpy as np
import torch
from numpy.typing import NDArray

from tests.golden.diffusion import (
    ANSWERS,
    ARRAYS,
    IMG2IMG_STEPS,
    LATENT,
    MLP_FREQUENCIES,
    MLP_WIDTH,
    NOISE_SHAPES,
    SEEDS,
    SHOWN,
    STRENGTHS,
    TRAJECTORY_SEED,
    TRAJECTORY_STEPS,
    epsilon,
    init_latent,
    mlp_tensors,
    moments,
)

LCMScheduler = diffusers.LCMScheduler
vae = import_module("diffusers.models.autoencoders.vae")
embeddings = import_module("diffusers.models.embeddings")
Arrays = dict[str, NDArray[Any]]


def main() -> int:
    """The command. Returns the exit status."""
    torch.set_num_threads(1)
    arrays: Arrays = {}
    for seed in SEEDS:
        arrays[f"noise.{seed}"] = _noise(seed)
    for steps in TRAJECTORY_STEPS:
        arrays[f"txt2img.{steps}"] = _txt2img(steps)
    for strength in STRENGTHS:
        arrays[f"img2img.{strength}"] = _img2img(strength)
    arrays["posterior"] = _posterior().numpy()
    arrays["time"] = _time_rows()
    answers = {
        "made_with": {"diffusers": diffusers.__version__, "torch": torch.__version__},
        "timesteps": {str(steps): schedule(steps).timesteps.tolist() for steps in range(1, 51)},
        "img2img": {
            f"{strength}:{steps}": tail(schedule(steps), steps, strength).tolist()
            for steps in (1, 2, 3, 4, 8, 50)
            for strength in (0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 1.0)
        },
        "boundary": {
            str(t): [float(value) for value in schedule(4).get_scalings_for_boundary_condition_discrete(t)]
            for t in (999, 759, 499, 259, 19)
        },
    }
    ANSWERS.write_text(json.dumps(answers) + "\n", encoding="utf-8")
    np.savez_compressed(ARRAYS, **arrays)  # type: ignore[arg-type]  # numpy declares its one option first
    return 0


def _noise(seed: int) -> Any:
    """Several draws in a row from one generator, the first numbers and the last of each."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(shape, generator=generator).flatten() for shape in NOISE_SHAPES]
    return torch.cat([part for draw in draws for part in (draw[:SHOWN], draw[-SHOWN:])]).numpy()


def schedule(steps: int) -> Any:
    """As Stable Diffusion 1.5 configures its scheduler, and LCM pipelines replace it."""
    scheduler = LCMScheduler.from_config(
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
        }
    )
    scheduler.set_timesteps(steps, original_inference_steps=50)
    return scheduler


def tail(scheduler: Any, steps: int, strength: float) -> torch.Tensor:
    """StableDiffusionImg2ImgPipeline.get_timesteps, which needs a whole pipeline to be called."""
    kept = min(int(steps * strength), steps)
    start = max(steps - kept, 0)
    scheduler.set_begin_index(start)
    return scheduler.timesteps[start:]


def _run(scheduler: Any, timesteps: torch.Tensor, latent: torch.Tensor, generator: torch.Generator) -> Any:
    kept = [latent]
    for index, timestep in enumerate(timesteps):
        predicted = torch.from_numpy(epsilon(index))
        result = scheduler.step(predicted, timestep, latent, generator=generator)
        latent = result.prev_sample
        kept += [result.denoised, latent]
    return torch.cat(kept).numpy()


def _txt2img(steps: int) -> Any:
    """The noise to begin with, then the estimate and the latent of every step."""
    generator = torch.Generator().manual_seed(TRAJECTORY_SEED)
    scheduler = schedule(steps)
    latent = torch.randn(LATENT, generator=generator) * scheduler.init_noise_sigma
    return _run(scheduler, scheduler.timesteps, latent, generator)


def _img2img(strength: float) -> Any:
    generator = torch.Generator().manual_seed(TRAJECTORY_SEED)
    scheduler = schedule(IMG2IMG_STEPS)
    timesteps = tail(scheduler, IMG2IMG_STEPS, strength)
    noise = torch.randn(LATENT, generator=generator)
    latent = scheduler.add_noise(torch.from_numpy(init_latent()), noise, timesteps[:1])
    return _run(scheduler, timesteps, latent, generator)


def _posterior() -> torch.Tensor:
    generator = torch.Generator().manual_seed(TRAJECTORY_SEED)
    return vae.DiagonalGaussianDistribution(torch.from_numpy(moments())).sample(generator) * 0.18215


def _time_rows() -> Any:
    """What enters the first ResNet, after its SiLU, at every timestep of an LCM."""
    embedding = embeddings.TimestepEmbedding(MLP_FREQUENCIES, MLP_WIDTH)
    embedding.load_state_dict(
        {
            name.removeprefix("time_embedding."): torch.from_numpy(values)
            for name, values in mlp_tensors().items()
        }
    )
    steps = schedule(50).timesteps
    with torch.no_grad():
        rows = embedding(embeddings.Timesteps(MLP_FREQUENCIES, True, 0)(steps))
        return torch.nn.functional.silu(rows).numpy()


if __name__ == "__main__":
    sys.exit(main())
