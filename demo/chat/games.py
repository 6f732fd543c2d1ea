"""Small word games, lists and JSON: what a model learns by copying rather than by heart."""

from __future__ import annotations

from random import Random

from demo.chat.facts import fact_round
from demo.chat.talk import Maker, Round, Split, draw, dumps
from demo.chat.words import LISTS, NAMES, NUMBER_WORDS, WORDS, pseudo

REPEAT = (
    "repeat {}", "repeat the word {}", "say {}", "please say {}", "write {}", "can you say {}?", "echo {}",
    "repeat after me: {}", "just say {}", "say the word {}",
)  # fmt: skip
UPPER = ("{} in capitals", "write {} in capitals", "uppercase {}", "put {} in upper case", "shout {}",
         "{} in capital letters", "make {} uppercase")  # fmt: skip
REVERSE = ("reverse {}", "{} backwards", "write {} backwards", "spell {} backwards", "what is {} backwards?",
           "turn {} around", "reverse the word {}")  # fmt: skip
SPELL = ("spell {}", "spell the word {}", "how do you spell {}?", "how is {} spelled?", "can you spell {}?",
         "the letters of {}", "please spell {}")  # fmt: skip
LENGTH = ("how many letters are in {}?", "how long is the word {}?", "count the letters of {}",
          "how many letters has {}?", "number of letters in {}")  # fmt: skip
FIRST = ("what is the first letter of {}?", "first letter of {}", "which letter does {} start with?")
LAST = ("what is the last letter of {}?", "last letter of {}", "which letter does {} end with?")
LIST = (
    "list {n} {what}", "name {n} {what}", "give me {n} {what}", "tell me {n} {what}",
    "write down {n} {what}", "can you name {n} {what}?", "I need {n} {what}",
)  # fmt: skip
JSON_MAKE = (
    "make a JSON object with {}", "give me JSON with {}", "write JSON with {}", "as JSON: {}",
    "a JSON object: {}", "turn this into JSON: {}", "JSON with {} please", "put this into JSON: {}",
)  # fmt: skip
JSON_ASK = (
    "{} answer in JSON", "{} Answer in JSON.", "{} as JSON", "{} reply with JSON", "{} in JSON please",
    "{} Give the answer as JSON.",
)  # fmt: skip
KEYS = (
    "name", "city", "size", "age", "color", "id", "price", "count", "title", "kind", "user", "level",
    "speed", "weight", "day", "team", "pet", "item", "place", "score", "mode", "unit", "owner", "tag",
    "code", "year",
)  # fmt: skip


def word(rng: Random, split: Split) -> str:
    """A word to play with: half real ones, half made up, each in one split only."""
    make = pseudo if rng.random() < 0.5 else _any_word
    return draw(rng, split, make, lambda w: f"word:{w.lower()}")


def real_word(rng: Random, split: Split) -> str:
    """A real word; held-out splits get words that training never shows."""
    return draw(rng, split, _any_word, lambda w: f"word:{w}")


def _any_word(rng: Random) -> str:
    return rng.choice(WORDS)


def _played(kind: str, frames: tuple[str, ...], rng: Random, split: Split) -> Round:
    chosen = word(rng, split) if split is Split.TRAIN else real_word(rng, split)
    shown = f'"{chosen}"' if rng.random() < 0.15 else chosen
    answer, think = _solve(kind, chosen)
    return Round(f"word {kind}", rng.choice(frames).format(shown), answer, answer, think)


def _solve(kind: str, chosen: str) -> tuple[str, str | None]:
    if kind == "length":
        numbered = " ".join(f"{letter}{place}" for place, letter in enumerate(chosen, 1))
        return str(len(chosen)), numbered
    solved = {
        "repeat": chosen, "upper": chosen.upper(), "reverse": chosen[::-1], "spell": "-".join(chosen),
        "first": chosen[0], "last": chosen[-1],
    }  # fmt: skip
    return solved[kind], None


GAMES = {
    "repeat": REPEAT,
    "upper": UPPER,
    "reverse": REVERSE,
    "spell": SPELL,
    "length": LENGTH,
    "first": FIRST,
    "last": LAST,
}


def game_round(rng: Random, split: Split) -> Round:
    """Any word game."""
    kind = rng.choice(tuple(GAMES))
    return _played(kind, GAMES[kind], rng, split)


def game(kind: str) -> Maker:
    """The maker of one word game."""
    return lambda rng, split: _played(kind, GAMES[kind], rng, split).talk()


def list_round(rng: Random, split: Split) -> Round:
    """The first N things of a list, numbered, so that the model sees where to stop."""

    def make(r: Random) -> tuple[str, int, bool]:
        what = r.choice(tuple(LISTS))
        return what, r.randrange(2, len(LISTS[what]) + 1), r.random() < 0.5

    what, n, spelled = draw(rng, split, make, lambda p: f"list:{p}")
    user = rng.choice(LIST).format(n=NUMBER_WORDS[n] if spelled else n, what=what)
    answer = "\n".join(f"{place}. {thing}" for place, thing in enumerate(LISTS[what][:n], 1))
    return Round("list", user, answer)


def count_round(rng: Random, split: Split) -> Round:
    """Counting up to N or down from N."""

    def make(r: Random) -> tuple[int, bool]:
        return r.randrange(3, 31), r.random() < 0.6

    n, upward = draw(rng, split, make, lambda p: f"count:{p}")
    up = ("count to {}", "count up to {}", "count from 1 to {}", "can you count to {}?")
    down = ("count down from {}", "count backwards from {}", "countdown from {}")
    numbers = range(1, n + 1) if upward else range(n, 0, -1)
    user = rng.choice(up if upward else down).format(n)
    return Round("count", user, ", ".join(map(str, numbers)) + ".")


def value(rng: Random, split: Split) -> str | int:
    """A value for JSON or a tool: a number, a name or a word."""
    luck = rng.random()
    if luck < 0.4:
        return rng.randrange(10 ** rng.randrange(1, 4))
    return name(rng, split) if luck < 0.7 else word(rng, split)


def name(rng: Random, split: Split) -> str:
    """A first name, real or made up, of one split only."""

    def make(r: Random) -> str:
        return r.choice(NAMES) if r.random() < 0.5 else pseudo(r).capitalize()

    return draw(rng, split, make, lambda n: f"word:{n.lower()}")


def json_make_round(rng: Random, split: Split) -> Round:
    """An object from given keys and values."""
    keys = rng.sample(KEYS, rng.choice((1, 2, 2, 2, 3)))
    pairs = {key: value(rng, split) for key in keys}
    form = rng.choice(("{} = {}", "{}={}", "{} {}", "{}: {}"))
    listed = [form.format(*pair) for pair in pairs.items()]
    joined = rng.choice((", ".join(listed), " and ".join(listed)))
    return Round("JSON object", rng.choice(JSON_MAKE).format(joined), dumps(pairs))


def json_answer_round(rng: Random, split: Split) -> Round:
    """A question whose one-word answer is wanted as JSON."""
    base = worded(rng, split)
    user = rng.choice(JSON_ASK).format(base.user)
    return Round("JSON answer", user, dumps({"answer": base.word}))


def worded(rng: Random, split: Split) -> Round:
    """A question about Hearth that one word answers."""
    while True:
        base = fact_round(rng, split)
        if base.word:
            return base


MAKERS: dict[str, tuple[float, Maker]] = {
    "word repeat": (1.3, game("repeat")),
    "word upper": (0.9, game("upper")),
    "word reverse": (1.6, game("reverse")),
    "word spell": (0.8, game("spell")),
    "word length": (0.8, game("length")),
    "word first": (0.4, game("first")),
    "word last": (0.4, game("last")),
    "list": (1.4, lambda rng, split: list_round(rng, split).talk()),
    "count": (1.0, lambda rng, split: count_round(rng, split).talk()),
    "JSON object": (6.0, lambda rng, split: json_make_round(rng, split).talk()),
    "JSON answer": (3.5, lambda rng, split: json_answer_round(rng, split).talk()),
}
