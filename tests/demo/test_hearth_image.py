"""The shipped picture model: recognised, exact, and good enough."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from config.groups import VirtualCardSettings
from demo.image import latents, tokenizer
from demo.image.evaluate import PACKAGE, measure, questions
from demo.image.judge import judge
from demo.image.painter import Painter, painter
from demo.image.pictures import SIZE, Pose, Scene, draw
from demo.image.prompts import WORDS
from hardware.virtual.card import VirtualCard
from models.diffusion.engine import PictureEngine
from models.diffusion.package import find_package, is_diffusion
from models.diffusion.preview import preview, read_matrix
from models.manifest import read_manifest
from tasks.board import PictureSize
from tasks.jobs import ANONYMOUS, ImageJob, JobClass, Submission, new_job_id
from tests.golden.demo_pictures import DRAWINGS, PICTURES, begin
from tests.models.cards import Scripted

NO_NOISE = np.zeros((1, 4, 16, 16), np.float32)


@pytest.fixture(scope="module")
def paints() -> Iterator[Painter]:
    with painter(PACKAGE) as opened:
        yield opened


def test_the_package_is_one_of_a_picture_model(paints: Painter) -> None:
    assert is_diffusion(PACKAGE)
    assert read_manifest(PACKAGE).is_demo
    geometry = paints.model.geometry
    assert (str(geometry.size), geometry.tokens, geometry.encoder is not None) == ("128x128", 77, True)
    assert paints.model.times.steps == tuple(range(1, 51))
    assert sum(path.stat().st_size for path in PACKAGE.rglob("*")) < 12e6


def test_its_tokenizer_is_the_one_it_was_trained_with(tmp_path: Path) -> None:
    tokenizer.write(WORDS, tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (PACKAGE / "tokenizer" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_its_encoder_is_the_one_that_is_written_down(paints: Painter) -> None:
    picture = draw(Scene("fish", "orange", "blue"), Pose(64, 64, 44, 0))
    np.testing.assert_allclose(paints.encode(picture, NO_NOISE), latents.encode(picture[None]), atol=1e-4)


def test_its_preview_is_the_picture_from_afar(paints: Painter) -> None:
    picture = draw(Scene("square", "yellow", "purple"), Pose(64, 64, 44, 0))
    matrix = read_matrix(PACKAGE / "latent_rgb.npy")
    seen = preview(latents.encode(picture[None]), matrix, (16, 16))
    means = picture.reshape(16, 8, 16, 8, 3).mean(axis=(1, 3))
    assert np.abs(seen - means).max() <= 1


def test_it_draws_what_it_is_asked_for(paints: Painter) -> None:
    marks = measure(paints, questions("test", 24), 4)
    assert marks["background"] == 1.0
    assert marks["color"] >= 0.95
    assert marks["shape"] >= 0.9


def test_another_seed_is_another_picture_of_the_same(paints: Painter) -> None:
    one, other = (paints.draw("a yellow star on a blue background", seed) for seed in (1, 2))
    assert np.abs(one.astype(int) - other).mean() > 0.3
    for picture in (one, other):
        seen = judge(picture)
        assert (seen.shape, seen.colour, seen.background) == ("star", "yellow", "blue")


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_are_those_of_diffusers(paints: Painter, name: str) -> None:
    with np.load(PICTURES) as golden:
        unet = hashlib.sha256((PACKAGE / "unet.axmodel").read_bytes()).hexdigest()
        assert golden["unet_sha256"] == unet, (
            "of another package: run python -m tests.golden.make_demo_pictures"
        )
        wanted = golden[name]
    drawing = DRAWINGS[name]
    if drawing.strength is None:
        made = paints.draw(drawing.prompt, drawing.seed)
    else:
        made = paints.redraw(begin(), drawing.prompt, drawing.seed, drawing.strength)
    assert np.abs(made.astype(int) - wanted).mean() < 2


def test_the_engine_draws_what_the_evaluation_draws(paints: Painter, tmp_path: Path) -> None:
    prompt, seed = "a green duck on a pink background", 5
    submission = Submission(new_job_id(), ANONYMOUS, JobClass.IMAGE, 0)
    job = ImageJob(submission, "hearth-image", prompt, seed, SIZE, SIZE, steps=4)
    with VirtualCard(tmp_path / "card", VirtualCardSettings()) as card:
        engine = PictureEngine("hearth-image", card, find_package(PACKAGE), tmp_path)
        for _ in engine.bring(PictureSize(SIZE, SIZE)):
            pass
        drawing = engine.draw(job, Scripted())
        while True:
            try:
                next(drawing)
            except StopIteration as end:
                sketch = end.value
                break
        engine.close()
    assert sketch is not None
    np.testing.assert_array_equal(sketch.drawing.pixels, paints.draw(prompt, seed))
