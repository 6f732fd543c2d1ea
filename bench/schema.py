"""``hearth bench schema``: answers bound to JSON schemas: do they validate, and what does a token cost?

Random schemas, half of them answered by the demo model, which may think before every second one, and half by
logits without any sense, which look for every hole there is. What a mask costs is measured over a vocabulary
as large as Qwen3's, made of syllables.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from bench.prefix import NoSignals
from bench.report import Row, arguments, at_most, tell
from config.groups import VirtualCardSettings
from hardware.virtual.card import VirtualCard
from models.catalog import DEMO_PACKAGES, describe
from models.llm.constraint import Constraint, Vocabulary
from models.llm.package import find_package
from models.llm.template import ChatTokenizer
from models.load import LoadedModel, load
from tasks.events import Finished
from tasks.grammar import fault_of, grammar_of
from tasks.jobs import ChatJob, FinishReason, JobClass, Message, Sampling, Submission, Thinking, new_job_id
from tasks.made import Made

VOCAB = 151_936
SCHEMAS = 500
MOST_TOKENS = 400
THOUGHTS = 100
"""Tokens; thoughts that take longer are ended."""
MASKS = 60
"""Schemas over the large vocabulary: each has some twenty tokens."""


@dataclass(frozen=True, slots=True)
class Outcome:
    schema: dict[str, Any]
    text: str
    stopped: bool
    thought: bool = False

    @property
    def is_valid(self) -> bool:
        try:
            jsonschema.validate(json.loads(self.text), self.schema)
        except (ValueError, jsonschema.ValidationError):
            return False
        return True


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--schemas", type=int, default=SCHEMAS, help="how many schemas are answered")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    outcomes = list(answered(options.schemas, options.seed))
    stopped = [outcome for outcome in outcomes if outcome.stopped]
    spent = mask_ms(options.seed)
    figures = {
        "schemas": len(outcomes),
        "thought": sum(outcome.thought for outcome in outcomes),
        "stopped": len(stopped),
        "valid": sum(outcome.is_valid for outcome in stopped),
        "mask_ms_per_token": float(np.mean(spent)),
        "mask_ms_p99": float(np.quantile(spent, 0.99)),
        "vocab": VOCAB,
    }
    picture = tell("schema", _rows(figures), figures, as_json=options.json, out=options.out)
    draw(spent, picture)
    for outcome in stopped:
        if not outcome.is_valid:
            sys.stderr.write(f"not valid: {json.dumps(outcome.schema)}\n  {outcome.text}\n")
    return 0


def _rows(figures: dict[str, Any]) -> list[Row]:
    asked, stopped, valid = figures["schemas"], figures["stopped"], figures["valid"]
    return [
        Row("answers behind thoughts", figures["thought"], f"of {asked}"),
        Row("answers that ended by themselves", stopped, f"of {asked}", "≥ 99 %", stopped >= 0.99 * asked),
        Row("of these valid", valid, f"of {stopped}", "all", valid == stopped),
        at_most("a mask over 151,936 tokens, mean", figures["mask_ms_per_token"], "ms", 1.0),
        Row("the same, p99", figures["mask_ms_p99"], "ms"),
    ]


# ---- schemas ----


def random_schema(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """Objects, arrays, enums, unions and bounded values, nested up to ``depth``."""
    inner = partial(random_schema, chance, depth - 1)
    nested: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: _object(chance, inner),
        lambda: {"type": "array", "items": inner(), "maxItems": chance.randint(1, 2)},
        lambda: {"anyOf": [inner(), inner()]},
    )
    flat: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: {"type": "string", "maxLength": chance.randint(1, 12)},
        lambda: _bounded("integer", chance),
        lambda: _bounded("number", chance),
        lambda: {"type": "boolean"},
        lambda: {"type": "null"},
        lambda: {"enum": [_constant(chance) for _ in range(chance.randint(1, 4))]},
        lambda: {"const": _constant(chance)},
    )
    return chance.choice(flat + nested * 2 if depth > 0 else flat)()


def _object(chance: random.Random, inner: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    names = chance.sample(["name", "age", "tags", "größe", "a b", "x", "unit", "items"], chance.randint(1, 4))
    properties = {name: inner() for name in names}
    required = [name for name in names if chance.random() < 0.7]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _bounded(kind: str, chance: random.Random) -> dict[str, Any]:
    lowest = chance.randint(-50, 50)
    return {"type": kind, "minimum": lowest, "maximum": lowest + chance.randint(0, 100)}


def _constant(chance: random.Random) -> Any:
    return chance.choice(["red", "kilowatt hour", "", 'a "quoted" one', 7, -2.5, True, None])


def followable(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` random schemas that no one would refuse."""
    chance = random.Random(seed)
    while count:
        schema = _object(chance, partial(random_schema, chance))
        if fault_of(json.dumps(schema)) is None:
            count -= 1
            yield schema


# ---- answers ----


def answered(count: int, seed: int) -> Iterator[Outcome]:
    """Every second schema by the demo model at temperature 1, the others by random logits."""
    directory = DEMO_PACKAGES / "hearth-chat"
    tokenizer = ChatTokenizer.load(find_package(directory))
    vocabulary = tokenizer.vocabulary(tokenizer.size)
    with tempfile.TemporaryDirectory() as place:
        card = VirtualCard(Path(place), VirtualCardSettings())
        model = load(card, describe(directory), lambda done, total: None)
        for number, schema in enumerate(followable(count, seed)):
            if number % 2:
                yield by_chance(schema, vocabulary, np.random.default_rng(number))
            else:
                yield _by_model(schema, model, number, Thinking(number % 4 == 0, THOUGHTS))
        model.close()
        card.close()


def _by_model(schema: dict[str, Any], model: LoadedModel, seed: int, thinking: Thinking) -> Outcome:
    submission = Submission(new_job_id(), "bench", JobClass.CHAT, 0)
    job = ChatJob(
        submission,
        "demo",
        (Message("user", _question(seed) if thinking.is_on else "Answer with JSON."),),
        Sampling(seed, max_tokens=MOST_TOKENS, temperature=1.0),
        thinking=thinking,
        json_schema=json.dumps(schema),
    )
    *deltas, end = model.stream(job, [], NoSignals())
    assert isinstance(end, Finished)
    made = Made.of(deltas)
    return Outcome(schema, made.text, end.reason is FinishReason.STOP, bool(made.reasoning))


def _question(number: int) -> str:
    """What the demo model thinks about; some words are beyond it, and it ends its turn in mid-thought."""
    if number % 8:
        return f"Spell {'lamp' * (1 + number % 3)}{number} backwards."
    return f"What is {number + 10} + {2 * number + 7}?"


def by_chance(schema: dict[str, Any], vocabulary: Vocabulary, chance: np.random.Generator) -> Outcome:
    constraint, text = Constraint(grammar_of(json.dumps(schema)), vocabulary), b""
    for _ in range(MOST_TOKENS):
        token = _any_of(constraint, vocabulary, chance)
        if token in vocabulary.stop_ids:
            return Outcome(schema, text.decode(), True)
        constraint.take(token)
        text += vocabulary.tokens[token]
        if constraint.is_over:
            return Outcome(schema, text.decode(), True)
    return Outcome(schema, text.decode("utf-8", "replace"), False)


def _any_of(constraint: Constraint, vocabulary: Vocabulary, chance: np.random.Generator) -> int:
    bits = np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little")[: len(vocabulary.tokens)]
    return int(chance.choice(np.flatnonzero(bits)))


# ---- what a mask costs ----


def syllables(seed: int) -> Vocabulary:
    """151,936 tokens as a byte-level vocabulary has them: bytes, pieces of words, numbers, marks."""
    chance = random.Random(seed)
    tokens = {bytes([byte]): None for byte in range(256)}
    while len(tokens) < VOCAB - 26:
        tokens[_piece(chance).encode()] = None
    names = [*tokens, *(b"" for _ in range(26))]
    special = range(VOCAB - 26, VOCAB)
    return Vocabulary(names, special, special[:2])


def _piece(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.8:
        letters = "etaoinshrdlucmfwypvbgkjqxz"[: chance.randint(10, 26)]
        word = "".join(chance.choice(letters) for _ in range(chance.randint(2, 8)))
        return chance.choice(["", " "]) + (word.capitalize() if chance.random() < 0.1 else word)
    if kind < 0.9:
        return "".join(chance.choice('{}[]":, \n\t0123456789.-') for _ in range(chance.randint(2, 5)))
    return "".join(chr(chance.randint(0x400, 0x9FFF)) for _ in range(chance.randint(1, 3)))


def mask_ms(seed: int) -> list[float]:
    """Milliseconds for every mask but an answer's first, which pays for the grammar."""
    vocabulary, spent = syllables(seed), []
    chance = np.random.default_rng(seed)
    for schema in followable(MASKS, seed):
        constraint = Constraint(grammar_of(json.dumps(schema)), vocabulary)
        for number in range(MOST_TOKENS):
            began_s = time.perf_counter()
            constraint.allowed()
            if number:
                spent.append((time.perf_counter() - began_s) * 1000)
            token = _any_of(constraint, vocabulary, chance)
            if token in vocabulary.stop_ids:
                break
            constraint.take(token)
            if constraint.is_over:
                break
    return spent


def draw(spent: Sequence[float], picture: Any) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    axes.hist(spent, bins=np.geomspace(0.005, 50, 60).tolist())
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("milliseconds for one mask over 151,936 tokens")
    axes.set_ylabel("masks")
    axes.set_title("What it costs to bind an answer to a schema")
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
