"""The package's own tokenizer and chat template, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from models.catalog import DEMO_PACKAGES
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from tasks.errors import InvalidJob
from tasks.jobs import Message


@pytest.fixture
def package(packages: Mapping[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(packages["qwen3"], tmp_path / "package"))


def tokenizer_of(directory: Path) -> ChatTokenizer:
    return ChatTokenizer.load(find_package(directory))


def test_messages_become_the_templates_text(package: Path) -> None:
    tokenizer = tokenizer_of(package)
    ids = tokenizer.prompt([Message("system", "be brief"), Message("user", "grüß 漢")], {}).ids
    assert tokenizer.decode(ids) == "system\nbe brief\nuser\ngrüß 漢\nassistant\n"
    assert ids[0] == 1  # <|im_start|>: special tokens stand in the ids and not in the text


def test_special_tokens_end_an_answer_whatever_the_config_names(package: Path) -> None:
    assert {0, 1, 2} <= tokenizer_of(package).stop_ids


def test_ends_of_every_config_count(package: Path) -> None:
    config = package / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos": [7, 8]}), encoding="utf-8")
    (package / "qwen3_tokenizer" / "generation_config.json").write_text(
        '{"eos_token_id": 9}', encoding="utf-8"
    )
    assert {7, 8, 9} <= tokenizer_of(package).stop_ids


def test_a_template_beside_the_config_is_taken_too(package: Path) -> None:
    place = package / "qwen3_tokenizer"
    (place / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8"
    )
    (place / "chat_template.jinja").write_text("{{ messages[0].content }}!", encoding="utf-8")
    tokenizer = tokenizer_of(package)
    assert tokenizer.decode(tokenizer.prompt([Message("user", "yes")], {}).ids) == "yes!"


def test_messages_that_come_to_nothing_are_refused(package: Path) -> None:
    (package / "qwen3_tokenizer" / "chat_template.jinja").write_text("{# nothing #}", encoding="utf-8")
    with pytest.raises(InvalidJob, match="come to nothing"):
        tokenizer_of(package).prompt([Message("user", "yes")], {})


def test_options_reach_the_template_and_strangers_are_named() -> None:
    tokenizer = tokenizer_of(DEMO_PACKAGES / "hearth-chat")
    asked = [Message("user", "hi")]
    plain = tokenizer.prompt(asked, {}).ids
    closed = tokenizer.prompt(asked, {"enable_thinking": False}).ids
    assert tokenizer.decode(closed) == tokenizer.decode(plain) + "<think>\n\n</think>\n\n"
    assert tokenizer.knows("enable_thinking")
    assert not tokenizer.knows("mood")
