"""Measure the demo model on talks it never trained on: ``python -m demo.chat.evaluate --json``.

Greedy, exact match, no torch. An answer counts when everything after the scratchpad is what the
corpus says, character by character; a tool call counts when its JSON is equal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from demo.chat.corpus import categories, exam
from demo.chat.forward import Network
from demo.chat.talk import Round, Split, Talk, answer, prompt

HERE = Path(__file__).parent
GROUPS = {
    "facts": ("fact", "fact new wording", "fact new frame"),
    "addition and subtraction": ("add", "subtract"),
    "JSON": ("JSON object", "JSON answer", "system: JSON"),
    "tool calls": ("tool call",),
    "copying words": ("word repeat", "word upper", "word reverse", "word spell"),
    "refusal": ("refusal",),
}


class Speaker:
    """A checkpoint directory that answers talks."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.network = Network.read(directory)
        ends = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
        self.stop = frozenset(ends)

    def say(self, text: str, limit: int = 160) -> str:
        """What the model writes after ``text``, scratchpad included."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        written = self.network.write(ids, self.stop, limit)
        return str(self.tokenizer.decode(written, skip_special_tokens=False))


def spoken(text: str) -> str:
    """An answer without its scratchpad."""
    return text.split("</think>")[-1].strip()


def right(said: str, talk: Talk) -> bool:
    """Whether ``said`` is the answer the corpus has for ``talk``."""
    said, wanted = spoken(said), spoken(answer(talk))
    call = talk.turns[-1].call
    if call is None:
        return said == wanted
    body = said.removeprefix("<tool_call>").removesuffix("</tool_call>")
    try:
        return bool(json.loads(body) == {"name": call.name, "arguments": dict(call.arguments)})
    except json.JSONDecodeError:
        return False


def measure(speaker: Speaker, count: int, split: Split, only: list[str]) -> dict[str, dict[str, Any]]:
    """Per category: how many were asked, how many were right, and the first wrong answers."""
    table: dict[str, dict[str, Any]] = {}
    for category in only or categories():
        asked = exam(category, count, split)
        wrong = []
        for talk in asked:
            said = speaker.say(prompt(talk))
            if not right(said, talk):
                wrong.append({"asked": talk.turns[-2].content, "said": said, "wanted": spoken(answer(talk))})
        correct = len(asked) - len(wrong)
        table[category] = {
            "n": len(asked), "correct": correct,
            "accuracy": round(correct / max(1, len(asked)), 4), "wrong": wrong[:3],
        }  # fmt: skip
        print(f"{category:24s} {correct:4d} / {len(asked):4d}", file=sys.stderr, flush=True)
    return table


def grouped(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same figures in the groups that have an aim."""
    groups = {}
    for group, members in GROUPS.items():
        rows = [table[member] for member in members if member in table]
        n, correct = sum(row["n"] for row in rows), sum(row["correct"] for row in rows)
        groups[group] = {"n": n, "correct": correct, "accuracy": round(correct / max(1, n), 4)}
    return groups


def main() -> None:
    """Print accuracy per category and per group."""
    parser = argparse.ArgumentParser(description="Measure the demo chat model on held-out talks.")
    parser.add_argument("--checkpoint", type=Path, default=HERE / "checkpoint")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--count", type=int, default=100, help="talks per category")
    parser.add_argument("--split", type=Split, default=Split.TEST, choices=[Split.DEV, Split.TEST])
    parser.add_argument("--only", action="append", default=[], help="a category; may be given more than once")
    parser.add_argument("--ask", help="print what the model says to this, and measure nothing")
    args = parser.parse_args()
    speaker, began = Speaker(args.checkpoint), time.monotonic()
    if args.ask is not None:
        print(speaker.say(prompt(Round("", args.ask, "").talk())))
        return
    table = measure(speaker, args.count, args.split, args.only)
    seconds = round(time.monotonic() - began, 1)
    report = {"split": args.split, "groups": grouped(table), "categories": table, "seconds": seconds}
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for name, row in {**table, **report["groups"]}.items():
        print(f"{name:26s} {row['correct']:4d} / {row['n']:4d}  {100 * row['accuracy']:5.1f} %")


if __name__ == "__main__":
    main()
