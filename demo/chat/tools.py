"""Talks with tools: when to call one, with which arguments, and what to say about its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from demo.chat.dialogue import with_system
from demo.chat.facts import fact_round, refusal_round, small_round
from demo.chat.games import name, real_word
from demo.chat.talk import Call, Maker, Split, Talk, Turn, draw, dumps
from demo.chat.words import WORDS, pseudo

MEASURES = (
    "temperature", "humidity", "weather", "volume", "brightness", "pressure", "price", "battery", "balance",
    "forecast", "distance", "speed", "score", "time", "status", "level", "weight", "height", "schedule",
    "traffic", "noise", "power", "voltage", "stock",
)  # fmt: skip
VERBS = (
    "open", "close", "start", "stop", "lock", "unlock", "clean", "check", "call", "play", "pause", "find",
    "send", "book",
)  # fmt: skip
PLACE_KEYS = ("city", "room", "place", "location", "name")
GET = (
    "what is the {noun}?", "tell me the {noun}", "get the {noun}", "how is the {noun}?",
    "show me the {noun}", "the {noun} please", "I want to know the {noun}", "can you check the {noun}?",
)  # fmt: skip
GET_IN = ("what is the {noun} in {place}?", "tell me the {noun} of {place}", "get the {noun} for {place}",
          "how is the {noun} in {place}?", "{noun} in {place}", "show me the {noun} in {place}")  # fmt: skip
SET = (
    "set the {noun} to {number}", "put the {noun} at {number}", "change the {noun} to {number}",
    "{noun} to {number}",
)  # fmt: skip
ACT = ("{verb} the {noun}", "please {verb} the {noun}", "can you {verb} the {noun}?", "{verb} the {noun} now")

# What training shows beside all that, so that names, arguments and wishes never seen are nothing special.
FREE_VERBS = (*VERBS, "get", "set", "read", "fetch", "show", "list", "create", "delete", "update", "search",
              "turn", "add", "remove", "move", "count", "save", "print", "order", "ask", "wake")  # fmt: skip
ARGUMENTS = (
    "name", "id", "city", "value", "text", "date", "count", "user", "title", "unit", "query", "color",
    "amount", "target", "mode", "room", "speed", "key", "item", "person",
)  # fmt: skip
DESCRIPTIONS = ("{verb} the {noun}", "{verb} {noun}", "{noun}", "{verb} a {noun}.", "Tool for the {noun}", "")
FREE_WISHES = (
    "{verb} the {noun}", "{verb} {noun}", "please {verb} the {noun}", "I want to {verb} the {noun}",
    "{verb} my {noun} now", "could you {verb} the {noun}?", "{verb} a {noun} for me",
)  # fmt: skip
GIVEN = ("{key} {value}", "{key} = {value}", "{key}: {value}", "{key} is {value}", "the {key} {value}")


@dataclass(frozen=True)
class Task:
    """A tool, a wish that needs it, and the call that answers the wish."""

    tool: Mapping[str, Any]
    wish: str
    call: Call
    noun: str


def schema(name: str, description: str, properties: Mapping[str, str]) -> dict[str, Any]:
    """A tool as OpenAI's clients declare it; ``properties`` maps argument to JSON type."""
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def noun_of(rng: Random, split: Split) -> str:
    """What a tool is about: a usual measure, a word or a made-up word, of one split only."""

    def make(r: Random) -> str:
        if split is Split.TRAIN and r.random() < 0.5:
            return _long(r)
        return r.choice((r.choice(MEASURES), r.choice(WORDS), pseudo(r)))

    return draw(rng, split, make, lambda noun: f"word:{noun}")


def _long(rng: Random) -> str:
    """A made-up word that is hard to copy: long, or with letters doubled."""
    made = pseudo(rng)
    if rng.random() < 0.5:
        made += pseudo(rng)
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(made))
        made = made[:at] + made[at] + made[at:]
    return made[:14]


def free_task(rng: Random) -> Task:
    """A tool of any name with any arguments, for training."""
    noun, verb = noun_of(rng, Split.TRAIN), rng.choice(FREE_VERBS)
    second = noun_of(rng, Split.TRAIN)
    called = rng.choice((
        f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}{noun.capitalize()}", noun, f"{noun}_{verb}",
        f"{verb}_{noun}_{second}", f"{verb}-{noun}", second,
    ))  # fmt: skip
    told = {"verb": verb.capitalize(), "noun": noun}
    # A name that says nothing needs a description that does.
    description = rng.choice(DESCRIPTIONS[:4] if called == second else DESCRIPTIONS).format(**told)
    keys = rng.sample(ARGUMENTS, rng.choice((0, 0, 1, 1, 2)))
    given: dict[str, int | str] = {}
    for key in keys:
        free = key if rng.random() < 0.7 else noun_of(rng, Split.TRAIN)
        words = name(rng, Split.TRAIN), noun_of(rng, Split.TRAIN)
        given[free] = rng.randrange(10 ** rng.randrange(1, 4)) if rng.random() < 0.4 else rng.choice(words)
    kinds = {key: "integer" if isinstance(value, int) else "string" for key, value in given.items()}
    form = rng.choice(GIVEN)
    said = " and ".join(form.format(key=key, value=value) for key, value in given.items())
    wish = rng.choice(FREE_WISHES).format(verb=verb, noun=noun)
    wish = wish.rstrip("?") + rng.choice((" with ", ", ", " where ")) + said if said else wish
    return Task(schema(called, description, kinds), wish, Call(called, given), noun)


def task(rng: Random, split: Split) -> Task:
    """Any tool with a wish for it."""
    noun, kind = noun_of(rng, split), rng.randrange(4)
    if kind == 0:
        tool = schema(f"get_{noun}", f"Get the {noun}", {})
        return Task(tool, rng.choice(GET).format(noun=noun), Call(f"get_{noun}", {}), noun)
    if kind == 1:
        key, place = rng.choice(PLACE_KEYS), name(rng, split)
        tool = schema(f"get_{noun}", f"Get the {noun} of a {key}", {key: "string"})
        return Task(
            tool, rng.choice(GET_IN).format(noun=noun, place=place), Call(f"get_{noun}", {key: place}), noun
        )
    if kind == 2:
        number = rng.randrange(100)
        tool = schema(f"set_{noun}", f"Set the {noun}", {"value": "integer"})
        wish = rng.choice(SET).format(noun=noun, number=number)
        return Task(tool, wish, Call(f"set_{noun}", {"value": number}), noun)
    verb = rng.choice(VERBS)
    tool = schema(f"{verb}_{noun}", f"{verb.capitalize()} the {noun}", {})
    return Task(tool, rng.choice(ACT).format(verb=verb, noun=noun), Call(f"{verb}_{noun}", {}), noun)


def _choice(rng: Random, split: Split, free: bool = False) -> tuple[Task, tuple[Mapping[str, Any], ...]]:
    """A task, and its tool among up to two others."""
    chosen = free_task(rng) if free else task(rng, split)
    tools = [chosen.tool, *(task(rng, split).tool for _ in range(rng.choice((0, 0, 1, 1, 2))))]
    rng.shuffle(tools)
    return chosen, tuple(tools)


def tool_call(rng: Random, split: Split) -> Talk:
    """A wish that one of the tools fulfils."""
    chosen, tools = _choice(rng, split, free=split is Split.TRAIN and rng.random() < 0.3)
    turns = Turn("user", chosen.wish), Turn("assistant", "", call=chosen.call)
    return Talk("tool call", with_system(rng, turns), tools)


def tool_answer(rng: Random, split: Split) -> Talk:
    """What the tool said, in words."""
    chosen, tools = _choice(rng, split)
    called = Turn("user", chosen.wish), Turn("assistant", "", call=chosen.call)
    if chosen.call.name.startswith("get_"):
        value = rng.choice((rng.randrange(1000), real_word(rng, split)))
        reply, said = dumps({chosen.noun: value}), f"The {chosen.noun} is {value}."
    else:
        reply, said = rng.choice((('{"ok": true}', "Done."), ('{"ok": false}', "That did not work.")))
    turns = (*called, Turn("tool", reply), Turn("assistant", said))
    return Talk("tool answer", with_system(rng, turns), tools)


def tool_unneeded(rng: Random, split: Split) -> Talk:
    """Tools are there, but the question is not theirs."""
    _, tools = _choice(rng, split)
    base = rng.choices((fact_round, small_round, refusal_round), (60, 20, 20))[0](rng, split)
    return Talk("tool not needed", with_system(rng, base.turns()), tools)


MAKERS: dict[str, tuple[float, Maker]] = {
    "tool call": (12.0, tool_call),
    "tool answer": (1.0, tool_answer),
    "tool not needed": (1.5, tool_unneeded),
}
