"""Questions as people type them: greetings, capitals, other words, words left out, slips of the finger."""

from __future__ import annotations

from random import Random

from demo.chat.heldout import FRAME_WORDS, HeldOut
from demo.chat.talk import Split, split_of
from demo.chat.words import TEXTS

OPENINGS = (
    "hi, ", "hello, ", "hey, ", "please, ", "so ", "ok, ", "well, ", "sorry, ", "one question: ", "and ",
    "now ", "quick question: ", "I am new here. ", "tell me, ", "excuse me, ", "hm, ", "hi there! ",
    "question: ", "but ", "for my project: ",
)  # fmt: skip
CLOSINGS = (
    " please", " thanks", " now", " again", " here", ", please", " in Hearth", " with Hearth", " exactly",
)  # fmt: skip

# Words people use for one another; a question is understood with any of a row.
ALIKE = tuple(tuple(word.replace("_", " ") for word in row.split()) for row in TEXTS["alike"])
OTHER_WORDS: dict[str, tuple[str, ...]] = {}
for _row in ALIKE:
    for _word in _row:
        OTHER_WORDS[_word] = OTHER_WORDS.get(_word, ()) + tuple(other for other in _row if other != _word)


def dressed(rng: Random, text: str, held: HeldOut) -> str:
    """The same question as people type it: with or without greeting, capitals, marks and slips.

    Never a held-out question: neither one that is near to ``held`` nor a held-out combination of
    wording and frame, which the hash of its text tells.
    """
    plain = text
    if rng.random() < 0.5:
        text = reworded(rng, text)
    luck = rng.random()
    if luck < 0.06:
        text = keywords(text)
    elif luck < 0.22:
        text = rng.choice(OPENINGS) + text
    if rng.random() < 0.1:
        mark = "?" if text.endswith("?") else ""
        text = text.rstrip("?") + rng.choice(CLOSINGS) + mark
    if text != plain and split_of(f"q:{text}") is not Split.TRAIN:
        text = plain
    text = cased(rng, text)
    for _ in range(rng.choices((0, 1, 2), (75, 20, 5))[0]):
        text = typo(rng, text)
    return plain if held.near(text) and not held.near(plain) else text


def reworded(rng: Random, text: str) -> str:
    """The text with a word or two replaced by others people use, or with words left out."""
    mark = "?" if text.endswith("?") else ""
    words = text.removesuffix("?").split(" ")
    known = [place for place, word in enumerate(words) if word in OTHER_WORDS]
    for place in rng.sample(known, min(len(known), rng.choice((0, 1, 1, 2, 3)))):
        words[place] = rng.choice(OTHER_WORDS[words[place]])
    while len(words) > 4 and rng.random() < 0.35:
        del words[rng.randrange(len(words))]
    return " ".join(words) + mark


def keywords(text: str) -> str:
    """Only the words that carry the question, as typed into a search box."""
    kept = [word for word in text.rstrip("?").split(" ") if word.lower().strip(",.") not in FRAME_WORDS]
    return " ".join(kept) if len(kept) > 1 else text


def cased(rng: Random, text: str) -> str:
    """The text with the capitals and the final mark changed as people do."""
    luck = rng.random()
    if luck < 0.4:
        text = text[0].upper() + text[1:]
    elif luck < 0.75:
        text = text.lower()
    if rng.random() < 0.3:
        text = text.rstrip("?")
    elif rng.random() < 0.08:
        text = text.rstrip("?!.") + rng.choice(("!", ".", "??"))
    return text


def typo(rng: Random, text: str) -> str:
    """The text with one letter dropped, doubled, swapped with the next or hit wrong."""
    letters = [i for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not letters:
        return text
    at, kind = rng.choice(letters), rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    if kind == 2:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[at + 1 :]
