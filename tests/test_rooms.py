"""The rooms are those of this checkout, and the light ones stay light."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from config.settings import CHECKOUT

ROOMS = ("api", "bench", "cli", "config", "demo", "hardware", "models", "tasks", "worker", "tests")
HEAVY = ("numpy", "transformers", "onnxruntime", "torch", "ml_dtypes", "PIL")


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_ours(room: str) -> None:
    found = importlib.import_module(room).__file__
    assert found is not None
    assert found == str(CHECKOUT / room / "__init__.py")


@pytest.mark.parametrize("module", ["api.main", "tasks.app", "cli.up", "worker.npu"])
def test_a_process_without_a_card_loads_no_numerics(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HEARTH_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_help_does_not_wait_for_what_it_does_not_need() -> None:
    slow = ("pydantic", "httpx", "redis", "asyncio")
    code = f"import sys, cli.main; print(*[name for name in {slow!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_docker_folder_holds_no_python() -> None:
    assert list((CHECKOUT / "docker").rglob("*.py")) == []
