"""A sheet of pictures drawn by the package: ``python -m demo.image.sheet docs/pictures/demo-image.png``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from demo.image.evaluate import PACKAGE
from demo.image.painter import painter
from demo.image.pictures import Scene, combinations
from demo.image.prompts import prompt_for
from demo.image.shapes import SHAPES

COLUMNS = 8


def scenes() -> list[Scene]:
    """One held-out combination for every figure, with as many different backgrounds as can be."""
    chosen: list[Scene] = []
    for number, shape in enumerate(SHAPES):
        known = [combination for combination in combinations("test") if combination[0] == shape]
        chosen.append(Scene(*known[number * 5 % len(known)]))
    return chosen


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Draw a sheet of pictures on held-out combinations.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--package", type=Path, default=PACKAGE)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    with painter(options.package) as paints:
        drawn = [paints.draw(prompt_for(s), seed, options.steps) for seed, s in enumerate(scenes())]
    rows = [np.concatenate(drawn[i : i + COLUMNS], axis=1) for i in range(0, len(drawn), COLUMNS)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(options.out, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
