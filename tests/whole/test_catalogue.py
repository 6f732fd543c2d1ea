"""A package from a catalogue to the card and off the disk again, by Ollama's SDK and the command line."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import ollama
import pytest

from bench.stack import Stack
from config.settings import CHECKOUT

NAME = "hearth:copy"


@pytest.fixture
def package(catalogue: Path) -> Path:
    """The demo's, under another name and with its checksums."""
    place = catalogue / "Hearth-Copy"
    shutil.copytree(CHECKOUT / "demo/packages/hearth-chat", place)
    (place / "hearth.toml").write_text("[sampling]\ntemperature = 0\n")
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(place)}\n" for path in files)
    (place / "SHA256SUMS").write_text("".join(sums))
    return place


def test_a_package_is_pulled_answers_and_is_deleted_while_it_is_on_the_card(
    server: Stack, package: Path
) -> None:
    place = server.data_dir / "models" / package.name
    with ollama.Client(host=server.url, timeout=60) as sdk:
        told = [part.status for part in sdk.pull(NAME, stream=True)]
        assert told[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
        assert "hearth-copy:latest" in [model.model for model in sdk.list().models]
        answer = sdk.chat(NAME, [{"role": "user", "content": "What is 47 + 38?"}])
        assert "85" in (answer.message.content or "")
        assert NAME.replace(":", "-") + ":latest" in [model.model for model in sdk.ps().models]
        assert sdk.delete(NAME).status == "success"
        assert not place.exists()
        assert "hearth-copy:latest" not in [model.model for model in [*sdk.list().models, *sdk.ps().models]]
        with pytest.raises(ollama.ResponseError, match="there is no model"):
            sdk.chat(NAME, [{"role": "user", "content": "Hello"}])
    assert [path.name for path in place.parent.iterdir()] == []
