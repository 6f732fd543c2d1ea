"""A grid: one request for every combination of some fields' values. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from api.errors import Refusal, outer
from api.openai.faults import wrong_type

_ROOT = re.compile(r"[^.\[]*")
_NOT_IN_A_GRID = frozenset({"kind", "grid", "webhook"})


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination: the whole request, and which value of each list it has."""

    body: dict[str, Any]
    places: Mapping[str, int]

    def outer(self, param: str | None) -> str | None:
        """``size`` as ``grid.size[1]``, where the grid has it; other names as they are."""
        root = "" if param is None else _ROOT.match(param)[0]  # type: ignore[index]  # it matches everything
        if param is None or root not in self.places:
            return param
        return f"grid.{root}[{self.places[root]}]{param[len(root) :]}"


def cells(body: Mapping[str, Any], known: Collection[str], most: int) -> list[Cell]:
    """All combinations of ``body["grid"]``; without a grid the body itself.

    They come in the order of nested loops: the first field is the outermost, the last one changes fastest.

    Raises:
        Refusal: the grid is no object of lists, names a field that is not ``known`` or stands outside as
            well, or has more than ``most`` combinations.
    """
    rest = {name: value for name, value in body.items() if name != "grid"}
    grid = body.get("grid")
    if grid is None:
        return [Cell(rest, {})]
    _check(grid, rest, known)
    count = math.prod(len(values) for values in grid.values())
    if count > most:
        raise Refusal("invalid_value", f"the grid has {count} combinations; at most {most} are taken", "grid")
    ways = itertools.product(*(enumerate(values) for values in grid.values()))
    return [
        Cell(
            {**rest, **{name: value for name, (_, value) in zip(grid, way, strict=True)}},
            {name: place for name, (place, _) in zip(grid, way, strict=True)},
        )
        for way in ways
    ]


def _check(grid: Any, rest: Mapping[str, Any], known: Collection[str]) -> None:
    if not isinstance(grid, dict):
        raise wrong_type("grid", "an object of lists", grid)
    if not grid:
        raise Refusal("invalid_value", "'grid' should hold at least one list of values", "grid")
    for name, values in grid.items():
        where = outer("grid", name[:60])
        if name not in known or name in _NOT_IN_A_GRID:
            raise Refusal("invalid_value", f"{where!a} is no field that a grid can hold", where)
        if name in rest:
            raise Refusal("invalid_value", f"'{name}' stands in the grid and outside of it", where)
        if not isinstance(values, list):
            raise wrong_type(where, "a list of values", values)
        if not values:
            raise Refusal("invalid_value", f"'{where}' should be a list that is not empty", where)
