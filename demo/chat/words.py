"""Words, names and lists to play with. None of them becomes a token of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random

TEXTS = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))
WORDS: tuple[str, ...] = tuple(TEXTS["words"].split())
NAMES: tuple[str, ...] = tuple(name.capitalize() for name in TEXTS["names"].split())
LISTS = {
    "colours": ("red", "orange", "yellow", "green", "blue", "violet", "pink", "brown", "black", "white"),
    "colors": ("red", "orange", "yellow", "green", "blue", "violet", "pink", "brown", "black", "white"),
    "days of the week": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "months": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
    ),
    "planets": ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"),
    "fruits": ("apple", "pear", "plum", "cherry", "grape", "lemon", "banana", "melon"),
    "animals": ("cat", "dog", "cow", "horse", "pig", "bird", "fish", "bear", "wolf"),
    "letters": ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"),
    "numbers": ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10"),
    "seasons": ("spring", "summer", "autumn", "winter"),
}
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ONSETS = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
          "br", "ch", "cl", "dr", "fl", "gr", "pl", "qu", "sh", "sl", "st", "th", "tr", "")  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "ea", "oo", "ai", "ou", "y")
CODAS = ("", "", "", "n", "r", "s", "t", "l", "m", "ck", "nd", "st", "rt", "ng", "x", "p")


def pseudo(rng: Random) -> str:
    """A made-up word of one to three syllables, 2 to 10 letters."""
    while True:
        syllables = rng.choice((1, 2, 2, 2, 3))
        made = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(syllables)) + rng.choice(CODAS)
        if 2 <= len(made) <= 10:
            return made
