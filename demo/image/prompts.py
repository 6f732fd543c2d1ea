"""What people may write for a scene, and scenes and prompts drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

from numpy.random import Generator

from demo.image.pictures import COLOURS, PLACES, Scene, combinations
from demo.image.shapes import SHAPES

USUAL_COLOURS: Mapping[str, str] = {
    "circle": "red",
    "square": "blue",
    "triangle": "green",
    "star": "yellow",
    "heart": "red",
    "moon": "yellow",
    "ring": "orange",
    "flower": "pink",
    "diamond": "turquoise",
    "cross": "black",
    "sun": "yellow",
    "cloud": "gray",
    "tree": "green",
    "mushroom": "brown",
    "snowman": "blue",
    "house": "red",
    "car": "blue",
    "boat": "brown",
    "rocket": "purple",
    "fish": "orange",
    "cat": "black",
    "duck": "yellow",
    "butterfly": "purple",
    "ghost": "gray",
}
"""The colour of a figure whose prompt names none."""
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "circle": ("disc", "ball"),
    "square": ("box",),
    "cross": ("plus",),
    "moon": ("crescent",),
    "ring": ("donut",),
    "tree": ("fir",),
    "house": ("home",),
    "boat": ("ship", "sailboat"),
    "cat": ("kitten",),
    "duck": ("duckling",),
    "turquoise": ("teal", "cyan"),
    "purple": ("violet",),
    "gray": ("grey",),
}
"""Other words for figures and colours."""
PLAIN = "a {figure} on a {background} background"
_FULL = (
    PLAIN,
    "{figure} on {background}",
    "a {figure} on {background}",
    "{figure}, {background} background",
    "a {figure}, {background} background",
    "a picture of a {figure} on a {background} background",
    "draw a {figure} on a {background} background",
    "a {figure} in front of a {background} background",
)
_SIZES = {False: ("", "", "", "big ", "large "), True: ("small ", "little ", "tiny ")}
_OPENINGS = ("", "please draw ", "an image of ", "a drawing of ", "simple ", "one ")
T = TypeVar("T")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

_SMALL_WORDS = (
    *(
        "a",
        "an",
        "the",
        "on",
        "in",
        "of",
        "at",
        "to",
        "with",
        "and",
        "is",
        "it",
        "one",
        "me",
        "front",
        "side",
    ),
    *("background", "picture", "image", "drawing", "draw", "please", "simple"),
    *("big", "large", "small", "little", "tiny"),
)
WORDS = tuple(
    sorted(
        {
            *SHAPES,
            *COLOURS,
            *PLACES,
            *(name for names in OTHER_NAMES.values() for name in names),
            *_SMALL_WORDS,
        }
    )
)
"""The words that are one token each."""


def prompt_for(scene: Scene) -> str:
    """The plainest prompt for ``scene``."""
    size = "small " if scene.small else ""
    place = f" on the {scene.place}" if scene.place != "middle" else ""
    text = f"a {size}{scene.colour} {scene.shape}{place} on a {scene.background} background"
    return text.replace("a orange", "an orange")


def random_scene(random: Generator, split: str = "train") -> Scene:
    """Mostly large and in the middle; a quarter small, and of these most to one side."""
    shape, colour, background = _pick(random, _combinations(split))
    if random.random() < 0.75:
        return Scene(shape, colour, background)
    places = tuple(PLACES)
    return Scene(shape, colour, background, small=True, place=places[int(random.integers(len(places)))])


def random_prompt(scene: Scene, random: Generator) -> str:
    """One of many ways to ask for ``scene``."""
    size = _pick(random, _SIZES[scene.small])
    shape = _name(scene.shape, random)
    figure = f"{size}{_colour_word(scene, random)}{shape}"
    if scene.place != "middle":
        # Beside the middle a figure is small, said or not.
        figure = f"{_pick(random, ('', 'small '))}{_colour_word(scene, random)}{shape}"
        figure += _pick(random, (f" on the {scene.place}", f" at the {scene.place}", f" {scene.place}"))
    elif scene.small and random.random() < 0.2:
        figure += " in the middle"
    if scene.background == _silent_background(scene) and random.random() < 0.4:
        text = _pick(random, ("a {figure}", "{figure}")).format(figure=figure)
    else:
        template = PLAIN if random.random() < 0.4 else _pick(random, _FULL)
        text = template.format(figure=figure, background=_name(scene.background, random))
    return _disturbed(text.replace("a orange", "an orange"), random)


def _colour_word(scene: Scene, random: Generator) -> str:
    usual = scene.colour == USUAL_COLOURS[scene.shape]
    return "" if usual and random.random() < 0.4 else f"{_name(scene.colour, random)} "


def _name(word: str, random: Generator) -> str:
    """``word``, or now and then another word for it."""
    others = OTHER_NAMES.get(word, ())
    return _pick(random, others) if others and random.random() < 0.3 else word


def _silent_background(scene: Scene) -> str:
    return "black" if scene.colour == "white" else "white"


def _disturbed(text: str, random: Generator) -> str:
    """Now and then with words in front, or with one the model does not know."""
    if random.random() < 0.15:
        text = _pick(random, _OPENINGS) + text
    if random.random() < 0.1:
        words = text.split()
        strange = "".join(_pick(random, _LETTERS) for _ in range(int(random.integers(3, 8))))
        words.insert(int(random.integers(len(words) + 1)), strange)
        text = " ".join(words)
    return text


def _pick(random: Generator, choices: Sequence[T]) -> T:
    return choices[int(random.integers(len(choices)))]


@cache
def _combinations(split: str) -> tuple[tuple[str, str, str], ...]:
    return combinations(split)
