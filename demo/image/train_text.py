"""Teach the text encoder what prompts ask for: ``python -m demo.image.train_text WORK``. Needs torch.

It comes first: a UNet learns a figure's colour in minutes when the text says it plainly, and hardly at all
when what the text says has to be found out through pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional

from demo.image import tokenizer
from demo.image.network import WIDTH, Reader, TextEncoder
from demo.image.pictures import COLOURS, PLACES, Scene
from demo.image.prompts import WORDS, random_prompt, random_scene
from demo.image.shapes import SHAPES
from models.diffusion.tokens import PromptTokenizer

CUT = 32
"""Tokens of a prompt in training; longer ones do not occur."""
BATCH = 64
_RATE = 2e-3
_CHOICES = (len(SHAPES), len(COLOURS), len(COLOURS), 2, len(PLACES))
_SHOWN_EVERY = 100


class Answers(nn.Module):
    """A linear answer to each of the reader's five questions."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader()
        self.heads = nn.ModuleList(nn.Linear(WIDTH, count) for count in _CHOICES)

    def forward(self, text: Tensor) -> list[Tensor]:
        return [head(row) for head, row in zip(self.heads, self.reader(text).unbind(1), strict=True)]


def ids_of(prompts: Sequence[str], words: PromptTokenizer) -> Tensor:
    """int64[prompts, CUT]."""
    rows = [words.tokens(prompt, CUT).ids for prompt in prompts]
    return torch.from_numpy(np.concatenate(rows).astype(np.int64))


def labels(scenes: Sequence[Scene]) -> Tensor:
    """int64[scenes, 5]: the right answers."""
    colours, places = tuple(COLOURS), tuple(PLACES)
    rows = [
        (
            SHAPES.index(scene.shape),
            colours.index(scene.colour),
            colours.index(scene.background),
            int(scene.small),
            places.index(scene.place),
        )
        for scene in scenes
    ]
    return torch.tensor(rows)


class Lesson:
    """The encoder, what answers from it, and prompts to learn from."""

    def __init__(self, work: Path) -> None:
        self.encoder = TextEncoder(tokenizer.write(WORDS, work / "tokenizer"))
        self.answers = Answers()
        self._words = PromptTokenizer(work / "tokenizer")

    def parameters(self) -> list[Tensor]:
        return [*self.encoder.parameters(), *self.answers.parameters()]

    def loss(self, random: Generator) -> Tensor:
        """Of one batch, the five answers' together."""
        said, right = self._asked(random, "train", BATCH)
        losses = [functional.cross_entropy(scores, right[:, i]) for i, scores in enumerate(said)]
        return torch.stack(losses).sum()

    def accuracy(self) -> list[float]:
        """Of each answer, on combinations that are not for training."""
        with torch.no_grad():
            said, right = self._asked(np.random.default_rng(2), "validation", 400)
        marks = [scores.argmax(1) == right[:, i] for i, scores in enumerate(said)]
        return [round(float(mark.float().mean()), 3) for mark in marks]

    def _asked(self, random: Generator, split: str, count: int) -> tuple[list[Tensor], Tensor]:
        scenes = [random_scene(random, split) for _ in range(count)]
        prompts = [random_prompt(scene, random) for scene in scenes]
        return self.answers(self.encoder(ids_of(prompts, self._words))), labels(scenes)


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Teach the text encoder what prompts ask for.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lesson = Lesson(options.work)
    optimizer = torch.optim.AdamW(lesson.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=options.steps, pct_start=0.1)
    random, began = np.random.default_rng(1), time.monotonic()
    for step in range(1, options.steps + 1):
        loss = lesson.loss(random)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(lesson.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % _SHOWN_EVERY == 0:
            passed = time.monotonic() - began
            print(f"{step} {passed:.0f} s, loss {loss.item():.3f}, right {lesson.accuracy()}", flush=True)
    state = {"encoder": lesson.encoder.state_dict(), "reader": lesson.answers.reader.state_dict()}
    torch.save(state, options.work / "text.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
