"""The package's own tokenizer and chat template, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from models.catalog import DEMO_PACKAGES
from models.llm.package import find_package
from models.llm.template import ChatTokenizer, byte_characters
from tasks.errors import InvalidJob
from tasks.jobs import Call, Message, Tool


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


@pytest.fixture(scope="module")
def demo() -> ChatTokenizer:
    return ChatTokenizer.load(find_package(DEMO_PACKAGES / "hearth-chat"))


def shown(tokenizer: ChatTokenizer, *turns: Message, tools: tuple[Tool, ...] = ()) -> str:
    """The whole prompt, special tokens included."""
    ids = tokenizer.prompt(turns, {}, tools).ids
    text: str = tokenizer._backend.decode(ids, skip_special_tokens=False)
    return text


ADD = Tool("add", "adds é", '{"type": "object", "properties": {"a": {"type": "integer"}}}')
CALLING = Message("assistant", "Well.", (Call("c1", "add", '{"a": [1, "é"]}'), Call("c2", "add", "{}")))


def test_tools_are_shown_in_the_templates_form(demo: ChatTokenizer) -> None:
    text = shown(demo, Message("system", "be brief"), Message("user", "1+1?"), tools=(ADD,))
    parameters = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    function = f'{{"name": "add", "description": "adds é", "parameters": {parameters}}}'
    assert f'<tools>\n{{"type": "function", "function": {function}}}\n</tools>' in text
    assert text.startswith("<|im_start|>system\nbe brief\n\n# Tools")


def test_calls_and_results_go_back_into_the_conversation(demo: ChatTokenizer) -> None:
    turns = (Message("user", "1+1?"), CALLING, Message("tool", "2", call_id="c1"))
    text = shown(demo, *turns, Message("tool", "3", call_id="c2"), tools=(ADD,))
    assert text.endswith(
        "<|im_start|>assistant\nWell.\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": [1, "é"]}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n2\n</tool_response>\n"
        "<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_thoughts_of_a_turn_are_kept_or_dropped_as_the_template_says(demo: ChatTokenizer) -> None:
    thought = replace(CALLING, reasoning="I add them")
    result = Message("tool", "2", call_id="c1")
    assert "<think>\nI add them\n</think>" in shown(demo, Message("user", "1+1?"), thought, result)
    # A new question: what was thought about an older one is left out.
    assert "I add them" not in shown(demo, Message("user", "1+1?"), thought, result, Message("user", "so?"))


def test_a_template_that_joins_arguments_as_text_gets_them_as_text(package: Path) -> None:
    calls = "{% for c in m.tool_calls or [] %}{{ 'call ' + c.function.arguments }}{% endfor %}"
    template = "{% for m in messages %}" + calls + "{% endfor %}"
    place = package / "qwen3_tokenizer"
    (place / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert shown(tokenizer_of(package), CALLING) == 'call {"a": [1, "é"]}call {}'


def test_a_prompt_that_ends_within_thoughts_says_so(package: Path, demo: ChatTokenizer) -> None:
    asked = [Message("user", "hi")]
    assert not demo.prompt(asked, {}).in_thoughts
    assert not demo.prompt(asked, {"enable_thinking": False}).in_thoughts
    (package / "qwen3_tokenizer" / "chat_template.jinja").write_text("hi{{ '<think>\n' }}", encoding="utf-8")
    opening = tokenizer_of(package)
    assert opening.prompt(asked, {}).in_thoughts
    assert (opening.knows_thinking, opening.knows_tools) == (True, False)
    assert (demo.knows_thinking, demo.knows_tools) == (True, True)


def test_marks_are_read_even_where_they_are_special(package: Path) -> None:
    path = package / "qwen3_tokenizer" / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["added_tokens"].append({**data["added_tokens"][0], "id": 290, "content": "<think>", "special": True})
    path.write_text(json.dumps(data), encoding="utf-8")
    tokenizer = tokenizer_of(package)
    think = tokenizer.encode("<think>")
    assert len(think) == 1
    assert tokenizer.decode([*think, *tokenizer.encode("a"), 0, 1, 2]) == "<think>a"


def test_a_tokens_bytes_are_its_own(demo: ChatTokenizer) -> None:
    text = "naïve 漢\n<think> 👩‍🍳<|im_end|>"
    pieces = [demo.token_bytes(token) for token in demo.encode(text)]
    assert b"".join(pieces).decode() == text
    assert b"<think>" in pieces
    assert demo.token_bytes(1_000_000) == b""
    every = byte_characters()
    assert sorted(every.values()) == list(range(256))
    assert (every["Ġ"], every["Ċ"], every["A"]) == (0x20, 0x0A, 0x41)
