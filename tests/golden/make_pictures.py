"""Have diffusers draw with the small picture model, and write down what it went through.

    python -m tests.golden.make_pictures

Needs torch, diffusers and transformers, which nothing else here does.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers  # type: ignore[import-not-found, unused-ignore]  # in no requirements of ours
from numpy.typing import NDArray

from tests.golden.diffusion import MLP_FREQUENCIES, MLP_WIDTH, mlp_tensors
from tests.golden.make_diffusion import schedule, tail
from tests.golden.pictures import (
    ARRAYS,
    CELL,
    CHANNELS,
    GUIDANCE,
    HEIGHT_PX,
    IMG2IMG_STEPS,
    NEGATIVE,
    PROMPT,
    SEED,
    STEPS,
    STRENGTHS,
    TOKENS,
    WIDTH_PX,
    source_picture,
    weights,
)
from tests.models.diffusion.files import write_tokenizer

vae = import_module("diffusers.models.autoencoders.vae")
embeddings = import_module("diffusers.models.embeddings")

W = {name: torch.from_numpy(values) for name, values in weights().items()}
SCALING_FACTOR = 0.18215


def main() -> int:
    """The command. Returns the exit status."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    arrays: dict[str, NDArray[Any]] = {"ids": _ids(PROMPT).numpy(), "negative": _ids(NEGATIVE).numpy()}
    for steps in STEPS:
        arrays |= _named(f"txt2img.{steps}", *_txt2img(steps, 1.0))
    arrays |= _named("guided", *_txt2img(4, GUIDANCE))
    for strength in STRENGTHS:
        arrays |= _named(f"img2img.{strength}", *_img2img(strength))
    np.savez_compressed(ARRAYS, **arrays)  # type: ignore[arg-type]  # numpy declares its one option first
    return 0


def _named(name: str, latents: torch.Tensor, image: torch.Tensor) -> dict[str, NDArray[Any]]:
    return {f"{name}.latents": latents.numpy(), f"{name}.image": image.numpy()}


def _ids(prompt: str) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as place:
        write_tokenizer(Path(place))
        files = (f"{place}/vocab.json", f"{place}/merges.txt")
        tokenizer = transformers.CLIPTokenizer(*files, unk_token="<|endoftext|>", pad_token="<|endoftext|>")
        made = tokenizer(prompt, padding="max_length", max_length=TOKENS, truncation=True)
    return torch.tensor([made["input_ids"]])


def _mixed(values: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return torch.einsum("oc,bchw->bohw", matrix, values)


def _text(ids: torch.Tensor) -> torch.Tensor:
    return W["table"][ids] + W["places"]


def _unet(sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    told = _time(timestep) @ W["by_time"] + text.mean(dim=1) @ W["by_text"]
    return _mixed(sample, W["mix"]) + torch.tanh(_mixed(sample, W["inner"]) + told[:, :, None, None])


def _time(timestep: torch.Tensor) -> torch.Tensor:
    embedding = embeddings.TimestepEmbedding(MLP_FREQUENCIES, MLP_WIDTH)
    tensors = {name.removeprefix("time_embedding."): torch.from_numpy(v) for name, v in mlp_tensors().items()}
    embedding.load_state_dict(tensors)
    row = embedding(embeddings.Timesteps(MLP_FREQUENCIES, True, 0)(timestep.reshape(1)))
    return torch.nn.functional.silu(row)


def _decoded(latent: torch.Tensor) -> torch.Tensor:
    colours = torch.tanh(_mixed(latent / SCALING_FACTOR, W["colours"]))
    image = colours.repeat_interleave(CELL, dim=2).repeat_interleave(CELL, dim=3)
    shown = (image / 2 + 0.5).clamp(0, 1)
    return (shown[0].permute(1, 2, 0) * 255).round().to(torch.uint8)


def _run(
    scheduler: Any, timesteps: torch.Tensor, latent: torch.Tensor, guidance: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents before each step and after the last, and the picture."""
    texts = [_text(_ids(PROMPT)), _text(_ids(NEGATIVE))]
    latents = [latent]
    for timestep in timesteps:
        prompted, without = (_unet(latent, timestep, text) for text in texts)
        epsilon = without + guidance * (prompted - without) if guidance > 1 else prompted
        latent = scheduler.step(epsilon, timestep, latent, generator=generator).prev_sample
        latents.append(latent)
    return torch.cat(latents), _decoded(latent)


def _txt2img(steps: int, guidance: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    scheduler = schedule(steps)
    shape = (1, CHANNELS, HEIGHT_PX // CELL, WIDTH_PX // CELL)
    latent = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
    return _run(scheduler, scheduler.timesteps, latent, guidance, generator)


def _img2img(strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """As StableDiffusionImg2ImgPipeline: a sample of the posterior, noised to the first timestep kept."""
    generator = torch.Generator().manual_seed(SEED)
    scheduler = schedule(IMG2IMG_STEPS)
    timesteps = tail(scheduler, IMG2IMG_STEPS, strength)
    picture = torch.from_numpy(source_picture()).permute(2, 0, 1)[None].float() / 127.5 - 1
    moments = _mixed(torch.nn.functional.avg_pool2d(picture, CELL), W["moments"])
    known = vae.DiagonalGaussianDistribution(moments).sample(generator) * SCALING_FACTOR
    noise = torch.randn(known.shape, generator=generator)
    latent = scheduler.add_noise(known, noise, timesteps[:1])
    return _run(scheduler, timesteps, latent, 1.0, generator)


if __name__ == "__main__":
    sys.exit(main())
