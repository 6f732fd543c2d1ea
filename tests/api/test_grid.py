"""The grid: every combination once, in the order of nested loops."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refusal
from api.jobs.grid import cells

KNOWN = ("kind", "grid", "prompt", "seed", "size", "steps")
VALUES = st.lists(st.integers() | st.text(max_size=3) | st.none(), min_size=1, max_size=4)
GRID = st.dictionaries(st.sampled_from(KNOWN[2:]), VALUES, min_size=1)


@given(grid=GRID)
def test_a_grid_is_the_product_of_its_lists(grid: dict[str, list[Any]]) -> None:
    found = cells({"kind": "image", "grid": grid}, KNOWN, 1000)
    names = list(grid)
    told = [tuple(cell.body[name] for name in names) for cell in found]
    assert told == list(itertools.product(*grid.values()))
    for cell in found:
        assert cell.body["kind"] == "image"
        assert "grid" not in cell.body
        assert all(grid[name][place] is cell.body[name] for name, place in cell.places.items())
        assert set(cell.places) == set(names)


@given(grid=GRID, most=st.integers(1, 20))
def test_a_grid_is_never_larger_than_allowed(grid: dict[str, list[Any]], most: int) -> None:
    count = len(list(itertools.product(*grid.values())))
    if count <= most:
        assert len(cells({"grid": grid}, KNOWN, most)) == count
        return
    with pytest.raises(Refusal, match=f"{count} combinations; at most {most}"):
        cells({"grid": grid}, KNOWN, most)


def test_a_huge_grid_is_counted_without_being_made() -> None:
    with pytest.raises(Refusal, match="1000000000000 combinations"):
        cells({"grid": {name: [0] * 1000 for name in KNOWN[2:]}}, KNOWN, 1000)


def test_without_a_grid_there_is_one() -> None:
    for body in ({"prompt": "x"}, {"prompt": "x", "grid": None}):
        (only,) = cells(body, KNOWN, 1)
        assert (only.body, only.places) == ({"prompt": "x"}, {})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"grid": []}, "grid"),
        ({"grid": "x"}, "grid"),
        ({"grid": {}}, "grid"),
        ({"grid": {"promt": ["a"]}}, "grid.promt"),
        ({"grid": {"kind": ["image"]}}, "grid.kind"),
        ({"grid": {"grid": [{}]}}, "grid.grid"),
        ({"grid": {"seed": []}}, "grid.seed"),
        ({"grid": {"seed": 5}}, "grid.seed"),
        ({"grid": {"seed": [1]}, "seed": 1}, "grid.seed"),
    ],
)
def test_a_grid_at_fault_is_told_where(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        cells(body, KNOWN, 100)
    assert refused.value.problem.param == param


def test_a_value_at_fault_is_told_by_its_place_in_the_grid() -> None:
    cell = cells({"grid": {"size": ["a", "b"], "seed": [1]}}, KNOWN, 10)[1]
    assert cell.outer("size") == "grid.size[1]"
    assert cell.outer("size.x") == "grid.size[1].x"
    assert cell.outer("sizes") == "sizes"
    assert cell.outer("prompt") == "prompt"
    assert cell.outer(None) is None
