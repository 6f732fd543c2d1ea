from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pictures.infotext import Infotext, parse

FIELDS = {"Steps": "4", "Sampler": "LCM", "CFG scale": "1", "Seed": "42", "Size": "512x768", "Model": "demo"}

name = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ \-/]{1,60}", fullmatch=True).filter(
    lambda text: text == text.strip()
)
value = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(
    lambda text: not text.replace("x", "").isdigit()
)
line = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40).map(str.strip)
prompt = (
    st.lists(line, max_size=4)
    .map("\n".join)
    .map(str.strip)
    .filter(lambda text: "Negative prompt:" not in text)
)
named = st.dictionaries(name, value, min_size=3, max_size=8)


def test_a_text_of_the_web_ui_is_read_as_it_reads_it() -> None:
    text = (
        "a castle, (detailed:1.2)\non a hill\n"
        "Negative prompt: blurry, low quality\nwatermark\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, Model hash: 6ce0161689, "
        'Lora hashes: "a: 1, b: 2", Version: v1.9.3'
    )
    read = parse(text)
    assert read.prompt == "a castle, (detailed:1.2)\non a hill"
    assert read.negative_prompt == "blurry, low quality\nwatermark"
    assert read.fields == {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "1",
        "Size-1": "512",
        "Size-2": "768",
        "Model hash": "6ce0161689",
        "Lora hashes": "a: 1, b: 2",
        "Version": "v1.9.3",
    }


def test_what_is_written_looks_as_the_web_ui_writes_it() -> None:
    assert str(Infotext("a dog", "a cat", FIELDS)) == (
        "a dog\nNegative prompt: a cat\n"
        "Steps: 4, Sampler: LCM, CFG scale: 1, Seed: 42, Size: 512x768, Model: demo"
    )


def test_no_line_is_written_for_an_empty_negative_prompt() -> None:
    assert "Negative" not in str(Infotext("a dog", "", FIELDS))


@pytest.mark.parametrize(
    "value", ['"a"', '"', '""', "", " ", "a ", '"a', 'a"', "a, b", "a: b", "a\nb", "\\", '\\"']
)
def test_values_of_any_form_are_kept_apart_from_the_form_itself(value: str) -> None:
    fields = {"Steps": "4", "Odd": value, "Seed": "1", "Last": value}
    assert parse(str(Infotext("a dog", "", fields))).fields == fields


@settings(max_examples=60)
@given(prompt, prompt, named)
def test_what_is_written_is_read_back(prompt: str, negative: str, fields: dict[str, str]) -> None:
    written = Infotext(prompt, negative, fields)
    assert parse(str(written)) == written


@settings(max_examples=60)
@given(st.text(), st.text(), named)
def test_fields_survive_any_prompt(prompt: str, negative: str, fields: dict[str, str]) -> None:
    assert parse(str(Infotext(prompt, negative, fields))).fields == fields


@given(st.text(st.sampled_from(string.printable), max_size=200))
def test_any_text_is_a_prompt_at_least(text: str) -> None:
    read = parse(text)
    assert read.prompt or read.negative_prompt or read.fields or not text.strip() or "Negative" in text


def test_two_fields_alone_are_a_part_of_the_prompt() -> None:
    assert parse("a dog\nSteps: 4, Seed: 1") == Infotext("a dog\nSteps: 4, Seed: 1")


def test_lone_surrogates_do_not_stop_a_picture() -> None:
    assert str(Infotext("a \ud800 dog")) == "a ? dog"


@pytest.mark.timeout(5)
def test_a_last_line_made_to_be_slow_is_read_at_once() -> None:
    for text in ("a", " a", "a ", "aa: ", 'aa:"', '"\\', "aa,", "/", "a:\\", ' -/"\\', "\n", "\t"):
        parse("b" + text * (200_000 // len(text)) + "b")
