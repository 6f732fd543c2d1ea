"""docs/promises.md names the tests that prove each promise; here it is seen that there are such tests."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from config.settings import CHECKOUT

PAGE = CHECKOUT / "docs" / "promises.md"
_NAMED = re.compile(r"`([^`]+\.py)::([^`]+)`")


def rows() -> list[tuple[str, list[tuple[str, str]]]]:
    """The promises, each with the files and names of its tests."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ", 1) for line in lines[1:]]
    return [(promise, _NAMED.findall(tests)) for promise, tests in cells]


@cache
def found_in(path: Path) -> frozenset[str]:
    """What pytest would find in the file: functions of the module. Raises FileNotFoundError."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.mark.parametrize(("promise", "named"), rows())
def test_each_promise_names_tests_and_they_exist(promise: str, named: list[tuple[str, str]]) -> None:
    assert named, f"nothing proves: {promise}"
    missing = [f"{file}::{name}" for file, name in named if name not in found_in(CHECKOUT / file)]
    assert missing == []


def test_the_page_is_read_whole() -> None:
    text = PAGE.read_text("utf-8")
    assert text.count("::test_") == sum(len(named) for _, named in rows()) > 50
