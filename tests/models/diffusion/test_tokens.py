from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from models.diffusion.tokens import PromptTokenizer
from models.manifest import PackageProblem
from tests.models.diffusion.files import write_tokenizer

LENGTH = 24


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory)
    return directory


@pytest.fixture(scope="module")
def ours(directory: Path) -> PromptTokenizer:
    return PromptTokenizer(directory)


@pytest.fixture(scope="module")
def theirs(directory: Path) -> CLIPTokenizer:
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(directory)
    return tokenizer


def ids(tokenizer: CLIPTokenizer, prompt: str) -> list[int]:
    encoded = tokenizer(prompt, padding="max_length", max_length=LENGTH, truncation=True)
    return list(encoded["input_ids"])


PROMPTS = [
    "",
    "A red CIRCLE, on a   red\n\tcat",
    "it's (detailed:1.2), 8k!! <lora:x>",
    "赤い円 café cafe\u0301 🔴 İ",
    "a <|endoftext|> b <|startoftext|>",
    "red " * 40,
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_become_the_tokens_of_transformers(
    ours: PromptTokenizer, theirs: CLIPTokenizer, prompt: str
) -> None:
    tokens = ours.tokens(prompt, LENGTH)
    assert tokens.ids.dtype == np.int32
    assert tokens.ids.shape == (1, LENGTH)
    assert tokens.ids[0].tolist() == ids(theirs, prompt)


@settings(max_examples=60)
@given(prompt=st.text())
def test_any_text_becomes_the_tokens_of_transformers(
    ours: PromptTokenizer, theirs: CLIPTokenizer, prompt: str
) -> None:
    assert ours.tokens(prompt, LENGTH).ids[0].tolist() == ids(theirs, prompt)


def test_short_prompts_are_filled_up_with_the_end_mark(ours: PromptTokenizer) -> None:
    tokens = ours.tokens("red", 5)
    start, red, *rest = tokens.ids[0].tolist()
    assert len({start, red, *rest}) == 3
    assert rest == [rest[0]] * 3
    assert (tokens.count, tokens.ignored) == (1, "")


def test_what_there_is_no_room_for_is_told(ours: PromptTokenizer) -> None:
    tokens = ours.tokens("red circle on red cat", 5)
    assert tokens.count > 3
    assert tokens.ignored == "red cat"
    assert ours.tokens("red circle on", 5).ignored == ""


def test_a_whole_tokenizer_file_goes_before_its_parts_and_its_lengths_are_not_ours(
    directory: Path, tmp_path: Path
) -> None:
    CLIPTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    whole = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    whole.enable_truncation(2)
    whole.enable_padding(length=50)
    whole.save(str(tmp_path / "tokenizer.json"))
    made = PromptTokenizer(tmp_path).tokens("a red circle", LENGTH)
    assert np.array_equal(made.ids, PromptTokenizer(directory).tokens("a red circle", LENGTH).ids)


@pytest.mark.parametrize("mark", ["!", {"content": "!", "special": True}])
def test_a_package_may_fill_up_with_another_mark(tmp_path: Path, mark: object) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": mark}))
    ids = PromptTokenizer(tmp_path).tokens("red", 5).ids[0].tolist()
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    assert ids[2:] == [vocab["<|endoftext|>"], vocab["!"], vocab["!"]]


def test_broken_files_say_so(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(PackageProblem, match="tokenizer cannot be read"):
        PromptTokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"r": 0, "e": 1, "re": 2}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\nr e\n")
    with pytest.raises(PackageProblem, match="does not know its own mark"):
        PromptTokenizer(tmp_path)
