"""Prompts that go through no chat template: their tokens, their answers, and gaps to fill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, processors

from models.catalog import describe
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from models.load import LoadedModel, load
from tasks.errors import ContextTooLong, InvalidJob, Unsupported
from tasks.events import Event, Finished, TextDelta
from tasks.jobs import ChatJob, RawPrompt
from tests.golden.llm import ANSWERS, MODELS
from tests.models.cards import AnyCard, Scripted, chat, ids_of, text_of

GOLDEN = json.loads(ANSWERS.read_text(encoding="utf-8"))["models"]
SPECIAL = {0, 1, 2}


def raw(prompt: RawPrompt, **sampling: Any) -> ChatJob:
    return replace(chat(**{"temperature": 0.0, **sampling}), messages=(), raw=prompt)


def run(engine: LoadedModel, job: ChatJob, emitted: list[int] | None = None) -> list[Event]:
    return list(engine.stream(job, emitted or [], Scripted()))


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_tokens_go_on_as_those_of_transformers(
    name: str, packages: Mapping[str, Path], open_card: Callable[..., AnyCard]
) -> None:
    """Token for token; the reference does not stop where a turn would end, an answer does."""
    engine = load(open_card(), describe(packages[name]), lambda done, total: None)
    for case in GOLDEN[name]:
        events = run(engine, raw(RawPrompt(token_ids=tuple(case["prompt"])), max_tokens=len(case["answer"])))
        end = next((at for at, token in enumerate(case["answer"]) if token in SPECIAL), None)
        assert ids_of(events) == case["answer"][:end]
        assert isinstance(events[-1], Finished)
        assert events[-1].usage.prompt_tokens == len(case["prompt"])
    engine.close()


def test_a_text_is_its_tokens_and_nothing_beside(engine: LoadedModel) -> None:
    text = "go on from here"
    ids = engine._tokenizer.encode(text)
    by_text = run(engine, raw(RawPrompt(text), max_tokens=9))
    by_token = run(engine, raw(RawPrompt(token_ids=tuple(ids)), max_tokens=9))
    assert ids_of(by_text) == ids_of(by_token)
    assert isinstance(by_text[-1], Finished)
    assert by_text[-1].usage.prompt_tokens == len(ids)
    templated = run(engine, chat(text, temperature=0.0, max_tokens=9))
    assert isinstance(templated[-1], Finished)
    assert templated[-1].usage.prompt_tokens > len(ids)


def test_it_goes_on_from_any_cut_as_if_nothing_had_happened(engine: LoadedModel) -> None:
    job = raw(RawPrompt("cut me anywhere"), temperature=1.2, max_tokens=12)
    whole = run(engine, job)
    deltas = [event for event in whole if isinstance(event, TextDelta)]
    for cut in range(0, len(deltas) + 1, 3):
        rest = run(engine, job, ids_of(deltas[:cut]))
        assert text_of(deltas[:cut]) + text_of(rest) == text_of(whole)


@pytest.mark.parametrize(
    ("prompt", "error", "param"),
    [
        (RawPrompt(token_ids=(10**6,)), InvalidJob, "prompt"),
        (RawPrompt(""), InvalidJob, "prompt"),
        (RawPrompt("a", suffix="b"), Unsupported, "suffix"),
        (RawPrompt(token_ids=(5,) * 4096), ContextTooLong, "prompt"),
    ],
)
def test_what_cannot_be_gone_on_from_names_its_field(
    engine: LoadedModel, prompt: RawPrompt, error: type[InvalidJob], param: str
) -> None:
    with pytest.raises(error) as refused:
        run(engine, raw(prompt))
    assert refused.value.param == param


def _changed(packages: Mapping[str, Path], place: Path, change: Callable[[Tokenizer], None]) -> ChatTokenizer:
    """A golden package whose tokenizer was changed."""
    package = Path(shutil.copytree(packages["qwen3"], place / "package"))
    file = package / "qwen3_tokenizer" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    change(tokenizer)
    tokenizer.save(str(file))
    return ChatTokenizer.load(find_package(package))


def test_a_gap_is_told_by_the_tokens_made_for_it(packages: Mapping[str, Path], tmp_path: Path) -> None:
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]

    def with_marks(tokenizer: Tokenizer) -> None:
        tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])

    tokenizer = _changed(packages, tmp_path, with_marks)
    first, second, third = (tokenizer.single(mark) for mark in marks)
    before, after = tokenizer.encode("ab"), tokenizer.encode("yz")
    ids = tokenizer.raw(RawPrompt("ab", suffix="yz"), vocab=10**6).ids
    assert ids == [first, *before, second, *after, third]


def test_what_begins_every_text_begins_it_once(packages: Mapping[str, Path], tmp_path: Path) -> None:
    def begun(tokenizer: Tokenizer) -> None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )

    tokenizer = _changed(packages, tmp_path, begun)
    plain = tokenizer.encode("hello")
    assert tokenizer.raw(RawPrompt("hello"), vocab=10**6).ids == [0, *plain]
    assert tokenizer.raw(RawPrompt("<|endoftext|>hello"), vocab=10**6).ids == [0, *plain]
