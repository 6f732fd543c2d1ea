"""The corpus: endless talks from a seed, in three splits that never share an item."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from demo.chat import dialogue, games, sums, tools
from demo.chat.facts import (
    DO_FRAMES,
    WHAT_FRAMES,
    fact_frame_round,
    fact_typo_round,
    fact_wording_round,
    facts,
    smalltalk,
    trained,
)
from demo.chat.talk import TOOLS_HEAD, TOOLS_TAIL, Maker, Split, Talk, dumps

MAKERS: dict[str, tuple[float, Maker]] = {**dialogue.MAKERS, **sums.MAKERS, **games.MAKERS, **tools.MAKERS}
# Asked only of held-out splits: harder relatives of what training shows.
EXAMS: dict[str, Maker] = {
    "fact new wording": lambda rng, split: fact_wording_round(rng, split).talk(),
    "fact new frame": lambda rng, split: fact_frame_round(rng, split).talk(),
    "fact typo": lambda rng, split: fact_typo_round(rng, split).talk(),
}


# What teaches to look back and copy. A network that learns this first learns all else sooner.
PRIMER = (
    "word repeat", "word upper", "word reverse", "word spell", "word length", "JSON object",
    "name greeted", "name remembered", "system: name", "add", "subtract",
)  # fmt: skip


def talks(seed: int, split: Split = Split.TRAIN, primer: bool = False) -> Iterator[Talk]:
    """Endless talks of a split in the mix of ``MAKERS``; the same seed gives the same talks.

    With ``primer`` the talks are mostly those that teach copying.
    """
    rng = Random(seed)
    names = list(MAKERS)
    weights = [MAKERS[name][0] * (6 if primer and name in PRIMER else 1) for name in names]
    while True:
        name = rng.choices(names, weights)[0]
        yield MAKERS[name][1](rng, split)


def exam(category: str, count: int, split: Split, seed: int = 0) -> list[Talk]:
    """``count`` different talks of one category from a held-out split, fewer where no more exist."""
    rng = Random(f"{category}/{split}/{seed}")
    maker = EXAMS.get(category) or MAKERS[category][1]
    found: dict[str, Talk] = {}
    for _ in range(count * 20):
        talk = maker(rng, split)
        found.setdefault(repr(talk.turns[:-1]) + repr(talk.tools), talk)
        if len(found) == count:
            break
    return list(found.values())


def categories() -> list[str]:
    """Everything an evaluation asks for, in report order."""
    return [*list(MAKERS)[:1], *EXAMS, *list(MAKERS)[1:]]


def vocabulary_text() -> Iterator[str]:
    """The text whose words become tokens: what is said about Hearth and the frames around it.

    Words to play with, names and off-topic things are left out on purpose. They stay bytes,
    so that the model can copy, spell and reverse what it has never seen.
    """
    for fact in (*facts(), *smalltalk()):
        yield from [fact.answer] * 6
        for kind, text in trained(fact):
            yield from (text, text.lower(), text[0].upper() + text[1:])
            # What goes into a frame stands behind a space there.
            yield from [f" {text}"] * (0 if kind == "ask" else 3)
    for frame in (*DO_FRAMES, *WHAT_FRAMES) * 4:
        yield from (_bare(frame), _bare(frame[0].upper() + frame[1:]))
    yield from dialogue.known_texts() * 2
    played = (*games.GAMES.values(), games.LIST, games.JSON_MAKE)
    for group in (sums.ADD, sums.SUB, sums.MUL, *sums.MORE.values(), *played):
        yield from (_bare(frame) for frame in group * 3)
    yield from (sums.TOO_BIG, TOOLS_HEAD, TOOLS_TAIL) * 8
    schema = tools.schema("get_time", "Get the time of a city", {"city": "string", "value": "integer"})
    yield from (dumps(schema),) * 8
    yield from (_bare(frame) for frame in (*tools.GET, *tools.GET_IN, *tools.SET, *tools.ACT) * 3)


def _bare(frame: str) -> str:
    """A frame without its gaps."""
    return "".join(part.split("}")[-1] for part in frame.split("{"))
