"""What every card checks before it runs a step: names, sizes, and which tensors may share memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hardware.card import Array, ShapeGroup, Tensors, TensorSpec
from hardware.errors import FeedMismatch

CACHE_INPUTS = ("K_cache", "V_cache")
"""The inputs that a row of output may be written into, while the mask hides that row."""


def base_name(name: str, group: int) -> str:
    """``name`` without the ``_{group}`` that some compilers add in the groups after the first."""
    return name.removesuffix(f"_{group}")


class Place:
    """Where one tensor of a step stands now. ``start`` and ``stop`` are card addresses.

    ``partner``: of a new K or V row the cache that it may be written into.
    """

    __slots__ = ("is_output", "partner", "size_bytes", "spec", "start", "stop")

    def __init__(self, spec: TensorSpec, *, is_output: bool) -> None:
        self.spec = spec
        self.size_bytes = spec.size_bytes  # reckoned once: it is asked for with every row that moves
        self.is_output = is_output
        self.partner: Place | None = None
        self.start = self.stop = 0

    def overlaps(self, other: Place) -> bool:
        return self.start < other.stop and other.start < self.stop

    def check(self, others: Iterable[Place]) -> None:
        """Raises FeedMismatch unless this output stands alone, or as a row within its own cache."""
        start, stop = self.start, self.stop
        for other in others:
            if other.start >= stop or start >= other.stop or other is self:
                continue
            if other is not self.partner or start < other.start or stop > other.stop:
                raise FeedMismatch(
                    f"{self.spec.name} at {start:#x} overlaps {other.spec.name} at {other.start:#x}"
                )


def pair(places: Iterable[Place], group: int) -> None:
    """Give every new K/V row its cache."""
    all_places = list(places)
    inputs = {base_name(each.spec.name, group): each for each in all_places if not each.is_output}
    for each in all_places:
        name = base_name(each.spec.name, group).removesuffix("_out")
        if each.is_output and name in CACHE_INPUTS:
            each.partner = inputs.get(name)


def same_names(given: Mapping[str, object], wanted: Sequence[str], what: str) -> None:
    """Raises FeedMismatch naming the first tensor that is missing or unknown."""
    missing = [name for name in wanted if name not in given]
    unknown = sorted(set(given) - set(wanted))
    if missing:
        raise FeedMismatch(f"missing {missing[0]!r} among the {what}")
    if unknown:
        raise FeedMismatch(f"unknown {unknown[0]!r} among the {what}; they are {list(wanted)}")


def same_size(place: Place, size_bytes: int) -> None:
    """Raises FeedMismatch unless a view is exactly as large as its tensor."""
    if size_bytes != place.size_bytes:
        spec = place.spec
        raise FeedMismatch(
            f"{spec.name} is {spec.dtype}{list(spec.shape)}, {place.size_bytes} bytes; "
            f"the view has {size_bytes}"
        )


def checked_feeds(group: ShapeGroup, feeds: Tensors) -> dict[str, Array]:
    """The group's inputs as C-contiguous arrays. Raises FeedMismatch."""
    same_names(feeds, [spec.name for spec in group.inputs], f"inputs of group {group.index}")
    arrays = {}
    for spec in group.inputs:
        array = feeds[spec.name]
        if array.dtype != spec.numpy_dtype or array.shape != spec.shape:
            raise FeedMismatch(
                f"{spec.name} must be {spec.numpy_dtype}{list(spec.shape)}, "
                f"got {array.dtype}{list(array.shape)}"
            )
        arrays[spec.name] = np.ascontiguousarray(array)
    return arrays
