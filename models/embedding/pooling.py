"""From one row per token to one vector of unit length."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import EngineError

Vector = NDArray[np.float32]


class Pooling(StrEnum):
    """Which rows of a text make its vector. ``CLS``: the first one, that of the mark a text begins with."""

    CLS = "cls"
    MEAN = "mean"
    MAX = "max"
    LAST = "last"


def pool(rows: NDArray[Any], count: int, pooling: Pooling, *, skip: int = 0) -> Vector:
    """float32[hidden] from [tokens, hidden], of which the first ``count`` rows are the text's.

    ``skip`` of them, those of a prompt, have no part in mean and maximum; never all.
    """
    if pooling in (Pooling.CLS, Pooling.LAST):
        row = rows[0 if pooling is Pooling.CLS else count - 1]
    else:
        own = rows[min(skip, count - 1) : count].astype(np.float64)
        row = own.mean(axis=0) if pooling is Pooling.MEAN else own.max(axis=0)
    vector: Vector = row.astype(np.float32)
    return vector


def unit(vector: Vector, dimensions: int | None = None) -> Vector:
    """The first ``dimensions`` numbers, all when None, made one of length 1.

    Raises:
        EngineError: they are no numbers, or all zero, so there is no direction in them.
    """
    wide = vector[:dimensions].astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not np.isfinite(length) or length == 0:
        raise EngineError("the model gave no vector for a text: its package or the card is at fault")
    return (wide / length).astype(np.float32)
