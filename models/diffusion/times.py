"""What the UNet is told about time: rows computed by its time MLP, or stored beside it.

AXERA's UNets are compiled without their time embedding: the vector that it gives, after the first SiLU, is an
input of the graph. Source: AXERA-TECH/sd1.5-lcm.axera@f21251d, model_convert/sd15_export_onnx.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from models.diffusion.lcm import LCM_TIMESTEPS, ORIGINAL_STEPS, timesteps
from models.manifest import PackageProblem

SHIPPED_TIMESTEPS = (999, 759, 499, 259)
"""The rows of ``time_input_txt2img.npy``. Source: the repository above, python/launcher.py."""
IMG2IMG_TIMESTEPS = (499, 259)
"""The first rows of ``time_input_img2img.npy``; its other rows are zeros, left over from a larger buffer."""

MLP_TENSORS = (
    "time_embedding.linear_1.weight",
    "time_embedding.linear_1.bias",
    "time_embedding.linear_2.weight",
    "time_embedding.linear_2.bias",
)
"""Their names in a diffusers checkpoint of the UNet, and in ``time_mlp.safetensors``."""

_MAX_PERIOD = 10_000
_SILU_LEAST = -0.2785
"""No SiLU gives less: its minimum is −0.27846."""
_MLP_TOLERANCE = 5e-3
"""How far a row of the MLP may be from the shipped one. Half-precision copies of one checkpoint differ by
about 1e-3; another checkpoint's rows by more than 1e-1 (relative to the largest value)."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TimeMlp:
    """The UNet's time embedding: two linear layers, float32.

    ``weight_1``: [width, frequencies], ``bias_1``: [width], ``weight_2``: [width, width], ``bias_2``:
    [width]; in Stable Diffusion 1.5 the width is 1280 and there are 320 frequencies.
    """

    weight_1: Floats
    bias_1: Floats
    weight_2: Floats
    bias_2: Floats

    @property
    def width(self) -> int:
        return int(self.bias_2.shape[0])

    def row(self, timestep: int) -> Floats:
        """The UNet's time input at ``timestep``: float32[width]."""
        hidden = silu(self.weight_1 @ sinusoid(timestep, self.weight_1.shape[1]) + self.bias_1)
        return silu(self.weight_2 @ hidden + self.bias_2)


@dataclass(frozen=True, slots=True)
class TimeInputs:
    """Time inputs by timestep: every one that is stored or can be computed for one UNet.

    ``sha256`` tells them apart; a picture is only the same when its time inputs are.
    """

    rows: Mapping[int, Floats]
    sha256: str

    @property
    def width(self) -> int:
        return len(next(iter(self.rows.values())))

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of steps whose whole schedule is there; 1, 2 and 4 with the shipped table."""
        return tuple(n for n in range(1, ORIGINAL_STEPS + 1) if self.rows.keys() >= set(timesteps(n)))

    def feed(self, timestep: int) -> Floats:
        """float32[1, width] for the graph. Raises KeyError when this timestep is not there."""
        return self.rows[timestep][None]


def sinusoid(timestep: int, count: int) -> Floats:
    """float32[count]: cosines first, then sines, of ``timestep`` at falling frequencies; ``count`` is even.

    The phase is computed in float64: diffusers', in float32, is off by up to 6e-5 at timestep 999. Source:
    huggingface/diffusers, models/embeddings.py, get_timestep_embedding with flip_sin_to_cos, no shift.
    """
    half = count // 2
    phase = timestep * np.exp(-math.log(_MAX_PERIOD) * np.arange(half) / half)
    values: Floats = np.concatenate([np.cos(phase), np.sin(phase)]).astype(np.float32)
    return values


def silu(values: Floats) -> Floats:
    """x · sigmoid(x), without overflow however negative x is."""
    activated: Floats = (values * (0.5 * (1 + np.tanh(0.5 * values)))).astype(np.float32, copy=False)
    return activated


def read_times(table: Path | None, mlp: Path | None) -> TimeInputs:
    """What is known of time for one UNet, from the files that lie beside it.

    With the MLP, all the timesteps an LCM can take; rows that are stored as well are taken as stored, because
    the UNet was calibrated with exactly those.

    Raises:
        PackageProblem: a file is broken, or the two are of different models, or neither is there.
    """
    if table is None and mlp is None:
        raise PackageProblem("time_input_txt2img.npy is missing: download it again")
    stored = read_table(table) if table else {}
    computed = _computed(mlp) if mlp else {}
    if table and mlp:
        _check_same_model(stored, computed, mlp)
    rows = {timestep: np.ascontiguousarray(row) for timestep, row in {**computed, **stored}.items()}
    digest = hashlib.sha256()
    for timestep, row in sorted(rows.items()):
        digest.update(timestep.to_bytes(2, "little") + row.astype("<f4").tobytes())
    return TimeInputs(rows, digest.hexdigest())


def read_table(path: Path) -> dict[int, Floats]:
    """The rows of a stored table by their timestep.

    Which timesteps they are follows from how many: four are the shipped ones, fifty all those of an LCM. Of a
    table for pictures from pictures, only the rows that were filled count.

    Raises:
        PackageProblem: it is no such table, or its rows cannot come out of a time MLP.
    """
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PackageProblem(f"{path.name} cannot be read ({error}): download it again") from None
    if not isinstance(table, np.ndarray) or table.dtype != np.float32 or table.ndim != 2:
        raise PackageProblem(f"{path.name} is no table of time inputs: float32[4, 1280] is wanted")
    known = {4: SHIPPED_TIMESTEPS, len(LCM_TIMESTEPS): LCM_TIMESTEPS}
    if "img2img" in path.name.lower():
        table, known = table[: len(IMG2IMG_TIMESTEPS)], {2: IMG2IMG_TIMESTEPS}
    if len(table) not in known:
        raise PackageProblem(
            f"{path.name} has {len(table)} rows: an LCM's time inputs have 4, or {len(LCM_TIMESTEPS)} for "
            "any number of steps; this one is for another sampler"
        )
    if not np.isfinite(table).all() or table.min() < _SILU_LEAST or not table.any(axis=1).all():
        raise PackageProblem(
            f"{path.name} holds rows that no UNet's time embedding gives (zeros, or below "
            f"{_SILU_LEAST}): download it again"
        )
    return dict(zip(known[len(table)], table, strict=True))


def read_mlp(path: Path) -> TimeMlp:
    """The four tensors of ``MLP_TENSORS`` out of a safetensors file, however much else is in it.

    Raises:
        PackageProblem: it is no such file, or they are missing or do not fit each other.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = [file.get_tensor(name).astype(np.float32) for name in MLP_TENSORS]
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise PackageProblem(f"{path.name} does not hold a UNet's time embedding ({error})") from None
    mlp = TimeMlp(*tensors)
    width = tensors[0].shape[0]
    shapes = [tensor.shape for tensor in tensors[1:]]
    if tensors[0].ndim != 2 or tensors[0].shape[1] % 2 or shapes != [(width,), (width, width), (width,)]:
        raise PackageProblem(f"the tensors in {path.name} are not the two layers of a time embedding")
    return mlp


def _computed(path: Path) -> dict[int, Floats]:
    mlp = read_mlp(path)
    return {timestep: mlp.row(timestep) for timestep in LCM_TIMESTEPS}


def _check_same_model(stored: Mapping[int, Floats], computed: Mapping[int, Floats], mlp: Path) -> None:
    for timestep, row in stored.items():
        other = computed[timestep]
        fits = other.shape == row.shape and np.abs(other - row).max() <= _MLP_TOLERANCE * np.abs(row).max()
        if not fits:
            raise PackageProblem(
                f"{mlp.name} and the stored time inputs are of different models (they part at timestep "
                f"{timestep}): extract it from the checkpoint this UNet was made of"
            )
