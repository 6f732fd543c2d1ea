"""The pictures of the demo model: what it learns from, what a latent is, and what judges it."""

from __future__ import annotations

from itertools import combinations as pairs
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demo.image import latents, tokenizer
from demo.image.evaluate import score
from demo.image.judge import judge
from demo.image.pictures import COLOURS, SIZE, SPLITS, Pose, Scene, combinations, draw, pose_of, split_of
from demo.image.prompts import OTHER_NAMES, USUAL_COLOURS, WORDS, random_prompt, random_scene
from demo.image.shapes import SHAPES
from demo.image.times import levels, readout, time_mlp, time_rows
from models.diffusion.lcm import LCM_TIMESTEPS
from models.diffusion.tokens import PromptTokenizer

# What it learns from.


def test_no_combination_is_in_two_splits() -> None:
    sets = [set(combinations(split)) for split in SPLITS]
    assert all(not one & other for one, other in pairs(sets, 2))
    assert sum(map(len, sets)) == len(SHAPES) * len(COLOURS) * (len(COLOURS) - 1)
    assert all(len(one) > 250 for one in sets)


def test_every_word_of_a_held_out_prompt_is_known_from_training() -> None:
    trained, held_out = (set(combinations("train")), set(combinations("test")))
    for place in range(3):
        assert {combination[place] for combination in held_out} <= {c[place] for c in trained}


@given(st.integers(0, 2**32 - 1))
def test_scenes_for_training_are_never_held_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    scene = random_scene(random)
    assert split_of(scene.shape, scene.colour, scene.background) == "train"


def test_pictures_and_prompts_follow_from_their_seed() -> None:
    drawn = []
    for _ in range(2):
        random = np.random.default_rng(11)
        scene = random_scene(random)
        drawn.append((random_prompt(scene, random), draw(scene, pose_of(scene, random)).tobytes()))
    assert drawn[0] == drawn[1]


def test_a_picture_is_its_two_colours() -> None:
    picture = draw(Scene("circle", "red", "blue"), Pose(64, 64, 44, 0))
    assert picture.shape == (SIZE, SIZE, 3)
    assert tuple(picture[64, 64]) == COLOURS["red"]
    assert tuple(picture[0, 0]) == COLOURS["blue"]


def test_every_figure_has_a_usual_colour_and_every_other_name_is_a_word() -> None:
    assert USUAL_COLOURS.keys() == set(SHAPES)
    assert {name for names in OTHER_NAMES.values() for name in names} <= set(WORDS)


def test_the_tokenizer_has_one_token_for_each_word(tmp_path: Path) -> None:
    count = tokenizer.write(WORDS, tmp_path)
    words = PromptTokenizer(tmp_path)
    assert {words.tokens(word, 77).count for word in WORDS} == {1}
    assert words.tokens("a Red circle", 77).ids[0, 5] == count - 1
    assert words.tokens("circular", 77).count > 1


# What a latent is.


def test_a_latents_colours_are_those_of_the_picture() -> None:
    picture = draw(Scene("heart", "pink", "green"), Pose(60, 70, 40, 0.1))
    weight, bias = latents.plain_colours()
    colours = np.moveaxis(latents.encode(picture[None]), 1, -1)[0] @ weight.T + bias
    means = (picture / 127.5 - 1).reshape(16, 8, 16, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(colours, means, atol=1e-5)


def test_edges_are_where_they_are_and_of_any_colour() -> None:
    flat = np.full((1, SIZE, SIZE, 3), 0.3, np.float32)
    assert latents.edges(flat).max() < 1e-6
    halves = flat.copy()
    halves[:, :, 60:] = -0.7
    edge = latents.edges(halves)[0]
    assert edge[:, 7].min() > 0.9
    assert np.delete(edge, 7, axis=1).max() < 1e-6


def test_the_noise_level_can_be_read_off_the_time_input() -> None:
    rows, stops = time_rows(time_mlp()), list(LCM_TIMESTEPS)
    weight, bias = readout(rows)
    np.testing.assert_allclose((rows @ weight.T + bias)[stops], levels()[stops], atol=2e-6)


# What judges it.


def test_the_judge_is_right_on_true_pictures() -> None:
    random = np.random.default_rng(3)
    scenes = [random_scene(random, "test") for _ in range(120)]
    marks = score([draw(scene, pose_of(scene, random)) for scene in scenes], scenes)
    assert marks == {"prompts": 120, "background": 1.0, "color": 1.0, "shape": 1.0, "all": 1.0}


def test_the_judge_sees_no_figure_in_a_blur() -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    cover = np.exp(-(x**2 + y**2) / 1500)[..., None]
    red, blue = (np.array(COLOURS[name], np.float64) for name in ("red", "blue"))
    assert judge((blue + cover * (red - blue)).astype(np.uint8)).shape is None


def test_the_judge_sees_nothing_in_one_colour() -> None:
    seen = judge(np.full((SIZE, SIZE, 3), COLOURS["green"], np.uint8))
    assert (seen.background, seen.colour, seen.shape) == ("green", None, None)
