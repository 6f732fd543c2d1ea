"""The words of the corpus: a talk, its turns, and how they become the model's text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>'
)
EMPTY_THINK = "<think>\n\n</think>\n\n"


class Split(StrEnum):
    """The part of the corpus an item belongs to; ``test`` is for the report alone."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


def split_of(key: str) -> Split:
    """The split an item belongs to, by a hash of its key: stable over runs, seeds and versions."""
    percent = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % 100
    if percent < 4:
        return Split.DEV
    return Split.TEST if percent < 13 else Split.TRAIN


def draw(rng: Random, split: Split, make: Callable[[Random], T], key: Callable[[T], str]) -> T:
    """An item made by ``make`` that belongs to ``split``."""
    for _ in range(20_000):
        item = make(rng)
        if split_of(key(item)) is split:
            return item
    raise LookupError(f"no item of the {split} split in 20000 draws")


@dataclass(frozen=True)
class Call:
    """One tool call of the assistant."""

    name: str
    arguments: Mapping[str, Any]

    def text(self) -> str:
        """The call as the chat template writes it."""
        return f'<tool_call>\n{{"name": "{self.name}", "arguments": {dumps(self.arguments)}}}\n</tool_call>'


@dataclass(frozen=True)
class Turn:
    """One message. ``think`` is the scratchpad an assistant turn opens with, if it has one."""

    role: str
    content: str
    think: str | None = None
    call: Call | None = None

    def text(self) -> str:
        """Content and call, without the scratchpad."""
        return self.call.text() if self.call else self.content


@dataclass(frozen=True)
class Talk:
    """One conversation; the last turn is the assistant's and is what an evaluation asks for.

    ``thinking`` False means that the caller asked for no scratchpad: the template then opens
    the answer with an empty one.
    """

    category: str
    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = field(default=())
    thinking: bool = True


@dataclass(frozen=True)
class Round:
    """A question and its answer, before they are put into a talk. ``word`` is the answer in one word."""

    category: str
    user: str
    answer: str
    word: str | None = None
    think: str | None = None

    def turns(self) -> tuple[Turn, Turn]:
        return Turn("user", self.user), Turn("assistant", self.answer, self.think)

    def talk(self) -> Talk:
        return Talk(self.category, self.turns())


Maker = Callable[[Random, Split], Talk]
RoundMaker = Callable[[Random, Split], Round]


def dumps(value: object) -> str:
    """JSON as the chat template's ``tojson`` writes it."""
    return json.dumps(value, ensure_ascii=False)


def prompt(talk: Talk) -> str:
    """Everything before the last answer, ending where the model begins to write."""
    return "".join(text for text, _ in _pieces(talk))


def answer(talk: Talk) -> str:
    """What the model should write, scratchpad included, up to the end mark."""
    last = talk.turns[-1]
    think = f"<think>\n{last.think}\n</think>\n\n" if last.think is not None and talk.thinking else ""
    return think + last.text()


def pieces(talk: Talk) -> list[tuple[str, bool]]:
    """The talk as text in order, each piece with whether the model learns to write it.

    Earlier answers lose their scratchpad, as the template drops it from history; such an
    answer is then not learned, or the model would learn to answer sums without working.
    """
    return [*_pieces(talk), (answer(talk) + "<|im_end|>", True)]


def _pieces(talk: Talk) -> Iterator[tuple[str, bool]]:
    turns = list(talk.turns)
    system = turns.pop(0).content if turns[0].role == "system" else ""
    if talk.tools:
        listed = "".join("\n" + dumps(tool) for tool in talk.tools)
        head = system + "\n\n" if system else ""
        yield f"<|im_start|>system\n{head}{TOOLS_HEAD}{listed}{TOOLS_TAIL}<|im_end|>\n", False
    elif system:
        yield f"<|im_start|>system\n{system}<|im_end|>\n", False
    for turn in turns[:-1]:
        if turn.role == "assistant":
            yield turn.text() + "<|im_end|>", turn.think is None
            yield "\n", False
        else:
            tool = turn.role == "tool"
            content = f"<tool_response>\n{turn.content}\n</tool_response>" if tool else turn.content
            yield f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n", False
    if not talk.thinking:
        yield EMPTY_THINK, False
