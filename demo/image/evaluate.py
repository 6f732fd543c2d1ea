"""Measure the demo picture model on held-out combinations: ``python -m demo.image.evaluate --json``.

No torch: the package's graphs on the virtual card, with the code that serves them. Each prompt is drawn once,
from a seed of its own, and judged by measuring (``judge``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.image.judge import judge
from demo.image.painter import Painter, painter
from demo.image.pictures import PLACES, Pixels, Scene, combinations, draw, pose_of
from demo.image.prompts import prompt_for

PACKAGE = Path(__file__).parent.parent / "packages" / "hearth-image"
STEPS = (1, 2, 4, 8)
USUAL_STEPS = 4

Question = tuple[str, Scene]


def questions(split: str, count: int, *, small: bool = False) -> list[Question]:
    """``count`` plain prompts on ``split``'s combinations, spread evenly over them, and what they ask for."""
    known = combinations(split)
    chosen = [known[i * len(known) // count % len(known)] for i in range(count)]
    places = tuple(PLACES)
    scenes = [
        Scene(*combination, small=True, place=places[i % len(places)]) if small else Scene(*combination)
        for i, combination in enumerate(chosen)
    ]
    return [(prompt_for(scene), scene) for scene in scenes]


def score(pictures: Sequence[Pixels], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Which fraction of ``pictures`` shows what ``scenes`` ask for, by what is asked."""
    right = {"background": 0, "color": 0, "shape": 0, "all": 0}
    for picture, scene in zip(pictures, scenes, strict=True):
        seen = judge(picture)
        marks = {
            "background": seen.background == scene.background,
            "color": seen.colour == scene.colour,
            "shape": seen.shape == scene.shape,
        }
        for name, is_right in {**marks, "all": all(marks.values())}.items():
            right[name] += is_right
    return {"prompts": len(scenes), **{name: round(n / len(scenes), 4) for name, n in right.items()}}


def measure(paints: Painter, asked: Sequence[Question], steps: int) -> dict[str, Any]:
    """Every prompt drawn in ``steps`` steps, the n-th from seed n."""
    pictures = [paints.draw(prompt, seed, steps) for seed, (prompt, _) in enumerate(asked)]
    return score(pictures, [scene for _, scene in asked])


def limits(paints: Painter, asked: Sequence[Question]) -> dict[str, Any]:
    """What the judge says of true pictures, and of those after a way through encoder and decoder."""
    random = np.random.default_rng(0)
    scenes = [scene for _, scene in asked]
    true = [draw(scene, pose_of(scene, random)) for scene in scenes]
    shape = paints.model.geometry.latent_shape
    back = [paints.decode(paints.encode(picture, np.zeros(shape, np.float32))) for picture in true]
    errors = [np.square(a / 255 - b / 255).mean() for a, b in zip(true, back, strict=True)]
    psnr = float(-10 * np.log10(np.mean(errors)))
    return {"true": score(true, scenes), "round_trip": {**score(back, scenes), "psnr_db": round(psnr, 2)}}


def report(paints: Painter, split: str, count: int) -> dict[str, Any]:
    """The whole of it."""
    large, small = questions(split, count), questions(split, count, small=True)
    began = time.monotonic()
    by_steps = {str(steps): measure(paints, large, steps) for steps in STEPS}
    return {
        "split": split,
        **by_steps[str(USUAL_STEPS)],
        "by_steps": by_steps,
        "small": measure(paints, small, USUAL_STEPS),
        "judge": limits(paints, large),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the demo picture model on held-out combinations.")
    parser.add_argument("--package", type=Path, default=PACKAGE)
    parser.add_argument("--split", choices=("validation", "test", "train"), default="test")
    parser.add_argument("--count", type=int, default=190, help="prompts of each kind (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    with painter(options.package) as paints:
        figures = report(paints, options.split, options.count)
    if options.json:
        print(json.dumps(figures, indent=2))
        return 0
    for steps, row in figures["by_steps"].items():
        print(f"{steps} steps: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
