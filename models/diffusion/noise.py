"""The normal noise that ``torch.randn`` draws on a CPU, in numpy, for the same seed."""

from __future__ import annotations

import math
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**32 - 1
"""torch takes seeds of 64 bits and uses the lower 32: beyond this, two seeds would make one picture."""

_BLOCK = 16
"""Normal numbers are made by sixteen: eight radii and eight angles make eight cosines, then eight sines."""
_TWO_PI = np.float32(2 * math.pi)

Floats = NDArray[np.float32]


class TorchNoise:
    """One stream of noise: ``torch.Generator().manual_seed(seed)`` and the draws made from it.

    Successive draws continue the stream, as torch's do. Every number is within 1e-6 of torch's; what is left
    is torch's own rounding, which differs between its builds. Logarithms and angles are taken in float64, so
    that the numbers here do not depend on the machine.

    Source: pytorch/pytorch, aten/src/ATen/native/cpu/DistributionTemplates.h (``normal_fill``) and
    aten/src/ATen/core/DistributionsHelper.h (``normal_distribution``).

    Raises:
        ValueError: ``seed`` is not from 0 to ``MAX_SEED``.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"a seed must be from 0 to {MAX_SEED}, not {seed}")
        # RandomState seeds its Mersenne Twister exactly as torch does; the newer bit generators do not.
        self._bits = np.random.MT19937()
        self._bits.state = np.random.RandomState(seed).get_state(legacy=False)  # type: ignore[assignment]  # numpy types one state in two ways
        self._kept: float | None = None

    def normal(self, shape: tuple[int, ...]) -> Floats:
        """The next ``torch.randn(shape)``: float32 of that shape, mean 0, deviation 1."""
        count = math.prod(shape)
        if count < _BLOCK:
            values = np.array([self._one() for _ in range(count)], dtype=np.float32)
        else:
            values = self._many(count)
        return values.reshape(shape)

    def _many(self, count: int) -> Floats:
        uniform = self._uniform(count)
        whole = count - count % _BLOCK
        values = np.empty(count, dtype=np.float32)
        values[:whole] = _box_muller(uniform[:whole])
        if whole < count:
            # A rest does not make a block: torch draws the last sixteen once more, from fresh numbers.
            values[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return values

    def _uniform(self, count: int) -> Floats:
        """float32 in [0, 1), 24 bits each."""
        raw = self._bits.random_raw(count) & np.uint64(0xFFFFFF)
        return raw.astype(np.float32) * np.float32(2.0**-24)

    def _one(self) -> float:
        """A single number, made in float64. The second of each pair waits for the next call, as in torch."""
        if self._kept is not None:
            value, self._kept = self._kept, None
            return value
        angle = 2 * math.pi * self._fine_uniform()
        radius = math.sqrt(-2 * math.log1p(-self._fine_uniform()))
        self._kept = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _fine_uniform(self) -> float:
        """float64 in [0, 1), 53 bits out of two draws, the high half first."""
        high, low = (int(word) for word in self._bits.random_raw(2))
        return (((high << 32) | low) & ((1 << 53) - 1)) * 2.0**-53


class NoiseAhead:
    """The draws of one stream, all of one shape, each made while the one before is in use.

    They are the same as without the thread: it is the only one that draws. What a picture does not need is
    drawn for nothing, once.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], thread: Executor) -> None:
        self._noise = TorchNoise(seed)
        self._shape = shape
        self._thread = thread
        self._next = thread.submit(self._noise.normal, shape)

    def draw(self) -> Floats:
        """float32 of the shape, mean 0, deviation 1."""
        drawn = self._next.result()
        self._next = self._thread.submit(self._noise.normal, self._shape)
        return drawn


def _box_muller(uniform: Floats) -> Floats:
    """Normal numbers from a multiple of sixteen uniform ones."""
    blocks = uniform.reshape(-1, 2, _BLOCK // 2)
    # The angle is rounded to float32 because torch rounds it: at 2π that is worth more than 1e-6 of result.
    angle = (_TWO_PI * blocks[:, 1]).astype(np.float64)
    radius = np.sqrt(-2 * np.log(1 - blocks[:, 0].astype(np.float64)))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1).astype(np.float32)
