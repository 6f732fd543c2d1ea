"""Questions about Hearth, small talk and what must be refused, in many wordings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from demo.chat.dress import cased, dressed, typo
from demo.chat.heldout import HeldOut
from demo.chat.talk import Round, Split, draw, split_of

HERE = Path(__file__).parent
DO_FRAMES = (
    "how do I {}?", "how can I {}?", "how to {}", "how do you {}?", "I want to {}",
    "can you tell me how to {}?", "tell me how to {}", "what do I do to {}?", "is there a way to {}?",
    "I need to {}", "please show me how to {}", "what is the best way to {}?", "can I {}?",
    "explain how to {}", "how would I {}?", "I would like to {}", "{}", "what must I do to {}?",
    "help me {}", "how does one {}?", "show me how to {}", "where can I {}?", "what is the way to {}?",
    "and how do I {}?", "i dont know how to {}", "could you explain how to {}?",
)  # fmt: skip
WHAT_FRAMES = (
    "what is {}?", "what's {}?", "whats {}", "explain {}", "tell me about {}", "what is {} for?",
    "describe {}", "what exactly is {}?", "can you explain {}?", "{}?", "{}", "please explain {}",
    "what do you mean by {}?", "I do not understand {}", "tell me more about {}", "and what is {}?",
    "what does {} mean?", "what about {}?", "do you know {}?", "give me a short explanation of {}",
    "what can you tell me about {}?", "so what is {}?",
)  # fmt: skip
# More frames, for training only.
MORE_DO_FRAMES = (
    "what would I type to {}?", "someone wants to {}", "guide me: how to {}", "I have to {}", "let us {}",
    "is it possible to {}?", "do you know how I {}?", "how do we {}?", "what do I need to {}?",
    "what is needed to {}?", "how is it possible to {}?", "what should I do to {}?", "how can one {}?",
    "my friend wants to {}", "what is the command to {}?", "am I able to {}?", "how should I {}?",
)  # fmt: skip
MORE_WHAT_FRAMES = (
    "clarify {}", "{}, please", "what should I know about {}?", "I keep seeing {}", "in short, what is {}?",
    "what is the meaning of {}?", "describe {} to me", "I wonder what {} is", "who knows what {} is?",
    "what is meant by {}?", "a word about {}", "{} - what is it?", "say something about {}",
    "what do I need {} for?", "can you say what {} is?", "the docs mention {}", "so, {}?",
)  # fmt: skip
# Frames no training text ever uses.
NOVEL_FRAMES = {
    Split.DEV: (
        ("I am trying to {}", "any idea how to {}?"),
        ("I have a question about {}", "why is there {}?"),
    ),
    Split.TEST: (
        (
            "what steps are needed to {}?",
            "my boss asks me to {}",
            "which command lets me {}?",
            "how might someone {}?",
        ),
        (
            "I read about {}, what is that?",
            "define {}",
            "teach me what {} is",
            "never heard of {}, what is it?",
        ),
    ),
}


KINDS = ("do", "what", "ask")


@dataclass(frozen=True)
class Fact:
    """One thing the model knows: an answer, and every way to ask for it.

    ``spoken`` are (kind, wording) pairs for training alone. A fact that is not ``examined`` came
    after the held-out questions were drawn and is asked for in training alone, too.
    """

    id: str
    answer: str
    word: str | None
    do: tuple[str, ...]
    what: tuple[str, ...]
    ask: tuple[str, ...]
    also: tuple[str, ...]
    more: tuple[str, ...]
    spoken: tuple[tuple[str, str], ...]
    examined: bool


@dataclass(frozen=True)
class Offtopic:
    """What is refused: whole questions, and frames with the things to put into them."""

    refusal: str
    refusal_word: str
    ask: tuple[str, ...]
    near: tuple[str, ...]
    also: tuple[str, ...]
    frames: tuple[str, ...]
    things: dict[str, tuple[str, ...]]
    more_frames: tuple[str, ...]
    more_things: dict[str, tuple[str, ...]]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def _facts(name: str) -> tuple[Fact, ...]:
    looser, spoken = _read("wordings.toml"), _read("spoken.toml")
    also, more = looser["also"], looser["more"]

    def texts(row: dict[str, Any], kind: str) -> tuple[str, ...]:
        return tuple(row.get(kind, ()))

    return tuple(
        Fact(
            row["id"], row["answer"], row.get("word"),
            texts(row, "do"), texts(row, "what"), texts(row, "ask"),
            texts(also, row["id"]), texts(more, row["id"]),
            tuple((kind, text) for kind in KINDS for text in texts(spoken.get(row["id"], {}), kind)),
            row.get("examined", True),
        )
        for row in _read(name)["fact"]
    )  # fmt: skip


@cache
def facts() -> tuple[Fact, ...]:
    """What the model knows about Hearth and itself."""
    return _facts("facts.toml")


@cache
def smalltalk() -> tuple[Fact, ...]:
    """Greetings, thanks and their like."""
    return _facts("smalltalk.toml")


@cache
def offtopic() -> Offtopic:
    """What the model must not pretend to know."""
    data = _read("smalltalk.toml")
    table = data["offtopic"]
    things = {kind: tuple(table[kind]) for kind in ("place", "person", "thing", "act")}
    more = {kind: tuple(texts) for kind, texts in _read("wordings.toml")["refused"].items()}
    also, frames = more.pop("ask"), more.pop("frames")
    refusal, word = str(data["refusal"]), str(data["refusal_word"])
    every = {kind: things.get(kind, ()) + texts for kind, texts in more.items()}
    asked, near, known = (tuple(table[kind]) for kind in ("ask", "near", "frames"))
    return Offtopic(refusal, word, asked, near, also, known, things, known + frames, every)


@cache
def _refused() -> tuple[str, ...]:
    """The whole questions that training alone refuses; of the spoken ones, those near to no held-out one."""
    spoken = _read("spoken.toml")["refused"]["ask"]
    return (*offtopic().also, *(text for text in spoken if not held_out().near(text)))


@cache
def phrases(fact: Fact, split: Split) -> list[tuple[str, str]]:
    """The fact's (kind, wording) pairs of a split. A fact keeps at least half its wordings for training."""
    kept: dict[Split, list[tuple[str, str]]] = {Split.TRAIN: [], Split.DEV: [], Split.TEST: []}
    every = [(kind, text) for kind in KINDS for text in getattr(fact, kind)]
    for index, (kind, text) in enumerate(every):
        home = split_of(f"phrase:{fact.id}:{text}") if index else Split.TRAIN
        held = len(kept[Split.DEV]) + len(kept[Split.TEST])
        kept[home if held < len(every) // 3 else Split.TRAIN].append((kind, text))
    kept[Split.TRAIN] += [("ask", text) for text in fact.also]
    return kept[split]


@cache
def held_out() -> HeldOut:
    """Every wording and off-topic text of the held-out splits."""
    off, splits = offtopic(), (Split.DEV, Split.TEST)
    asked = [text for f in (*facts(), *smalltalk()) for split in splits for _, text in phrases(f, split)]
    refused = [*off.ask, *off.near, *(thing for things in off.things.values() for thing in things)]
    return HeldOut([*asked, *(text for text in refused if split_of(f"off:{text}") in splits)])


@cache
def trained(fact: Fact) -> list[tuple[str, str]]:
    """Every wording of the fact that training uses; of the spoken ones, those near to no held-out one."""
    # A whole question may also be a held-out combination of wording and frame.
    spoken = [
        (kind, text)
        for kind, text in fact.spoken
        if not held_out().near(text) and (kind != "ask" or split_of(f"q:{text}") is Split.TRAIN)
    ]
    return phrases(fact, Split.TRAIN) + [("ask", text) for text in fact.more] + spoken


def _fact(rng: Random, split: Split) -> Fact:
    return rng.choice([fact for fact in facts() if fact.examined or split is Split.TRAIN])


def question(rng: Random, kind: str, text: str, frames: tuple[Sequence[str], Sequence[str]]) -> str:
    """A wording put into a frame of its kind; a whole question stays as it is."""
    if kind == "ask":
        return text
    return rng.choice(frames[0] if kind == "do" else frames[1]).format(text)


@cache
def more_frames() -> tuple[Sequence[str], Sequence[str]]:
    """The frames that training alone uses, for ``do`` and for ``what``."""
    spoken = _read("spoken.toml")["frames"]
    return (*MORE_DO_FRAMES, *spoken["do"]), (*MORE_WHAT_FRAMES, *spoken["what"])


def _wordings(rng: Random, fact: Fact) -> list[tuple[str, str]]:
    """The wordings training draws from this time: whole questions, the first things to ask for, or any."""
    luck, every = rng.random(), trained(fact)
    if luck < 0.75:
        few = every if luck < 0.45 else phrases(fact, Split.TRAIN)
        return [pair for pair in few if (pair[0] == "ask") == (luck < 0.45)] or every
    return every


def seen_question(rng: Random, fact: Fact, split: Split) -> str:
    """A known wording in a known frame, in a combination that belongs to ``split``."""
    known = _wordings(rng, fact) if split is Split.TRAIN else phrases(fact, Split.TRAIN)
    frames: tuple[Sequence[str], Sequence[str]] = DO_FRAMES, WHAT_FRAMES
    if split is Split.TRAIN and rng.random() < 0.5:
        frames = more_frames()

    def make(r: Random) -> str:
        return question(r, *r.choice(known), frames)

    for _ in range(200):
        text = make(rng)
        # Whole questions of the training split stay there: only combinations are held out.
        home = Split.TRAIN if text in (*fact.ask, *fact.also, *fact.more) else split_of(f"q:{text}")
        if home is split:
            return text
    raise LookupError(fact.id)


def as_typed(rng: Random, text: str, split: Split) -> str:
    """The question in training as people type it, in held-out splits as it is."""
    return dressed(rng, text, held_out()) if split is Split.TRAIN else text


def fact_round(rng: Random, split: Split) -> Round:
    """A fact in a known wording; held-out splits get held-out combinations of wording and frame."""
    while True:
        fact = _fact(rng, split)
        try:
            text = seen_question(rng, fact, split)
        except LookupError:
            continue
        return Round("fact", as_typed(rng, text, split), fact.answer, fact.word)


def fact_wording_round(rng: Random, split: Split) -> Round:
    """A fact asked for in a wording of the split (for held-out splits: words never trained on)."""
    while True:
        fact = _fact(rng, split)
        if found := phrases(fact, split):
            text = question(rng, *rng.choice(found), (DO_FRAMES, WHAT_FRAMES))
            return Round("fact new wording", text, fact.answer, fact.word)


def fact_frame_round(rng: Random, split: Split) -> Round:
    """A known wording in a frame that training never uses."""
    while True:
        fact = _fact(rng, split)
        found = [p for p in phrases(fact, Split.TRAIN) if p[0] != "ask"]
        if found:
            text = question(rng, *rng.choice(found), NOVEL_FRAMES[split])
            return Round("fact new frame", text, fact.answer, fact.word)


def fact_typo_round(rng: Random, split: Split) -> Round:
    """A held-out combination with one slip of the finger, in lower case and without its mark."""
    base = fact_round(rng, split)
    return Round("fact typo", typo(rng, base.user.lower().rstrip("?")), base.answer, base.word)


def small_round(rng: Random, split: Split) -> Round:
    """Small talk."""
    fact = rng.choice([f for f in smalltalk() if phrases(f, split)])
    text = rng.choice(trained(fact) if split is Split.TRAIN else phrases(fact, split))[1]
    return Round("small talk", cased(rng, text) if split is Split.TRAIN else text, fact.answer, fact.word)


def refusal_round(rng: Random, split: Split) -> Round:
    """A question the model cannot answer, and the refusal."""
    off = offtopic()
    luck = rng.random() if split is Split.TRAIN else 1.0
    if luck < 0.4:
        text = rng.choice(_refused())
    elif luck < 0.65:
        text = more_offtopic_text(rng)
    else:
        text = draw(rng, split, _offtopic_text, lambda t: f"off:{t[1]}")[0]
    return Round("refusal", as_typed(rng, text, split), off.refusal, off.refusal_word)


def _offtopic_text(rng: Random) -> tuple[str, str]:
    """An off-topic question and the part of it that decides its split."""
    off, luck = offtopic(), rng.random()
    if luck < 0.45:
        text = rng.choice(off.ask if luck < 0.28 else off.near)
        return text, text
    text, chosen = _filled(rng, off.frames, off.things)
    return text, chosen[0]


def _filled(rng: Random, frames: Sequence[str], things: Mapping[str, Sequence[str]]) -> tuple[str, list[str]]:
    """A frame with things put into it, and these things."""
    frame = rng.choice(frames)
    chosen = {kind: rng.choice(things[kind]) for kind in things if f"{{{kind}}}" in frame}
    return frame.format(**chosen), list(chosen.values())


def more_offtopic_text(rng: Random) -> str:
    """An off-topic question for training, with no thing and no whole text that is held out."""
    off = offtopic()
    while True:
        text, chosen = _filled(rng, off.more_frames, off.more_things)
        if all(split_of(f"off:{part}") is Split.TRAIN for part in (text, *chosen)):
            return text
