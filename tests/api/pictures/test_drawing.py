"""From what somebody wants drawn to jobs: defaults, checks, seeds, warnings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refusal, of_error
from api.pictures import inputs
from api.pictures.drawing import SEEDS, Drawing, Origin, image_jobs, parse_size
from api.terms import Terms
from config.groups import LimitSettings
from config.settings import Settings
from tasks.board import PictureSize
from tasks.errors import JobError, ModelUnusable, SizeUnsupported
from tasks.jobs import ImageJob, JobClass, MaskBy, Resize
from tasks.pictures.header import PictureFormat
from tests.api.painting import a_picture
from tests.api.support import PICTURES

PLAIN = Settings.model_construct()
TERMS = Terms("me", JobClass.IMAGE)
PICTURE = inputs._taken(a_picture(), "image", LimitSettings())
MASK = inputs._taken(a_picture(colour="white"), "mask", LimitSettings())


def drawn(count: int = 1, terms: Terms = TERMS, names: Any = None, **values: Any) -> list[ImageJob]:
    drawing = Drawing(**{"prompt": "a fox", **values})
    return image_jobs(drawing, PICTURES, terms, PLAIN, count=count, names=names)


def test_what_is_left_open_is_the_packages() -> None:
    (job,) = drawn()
    assert (job.model, job.prompt) == ("pictures", "a fox")
    assert (job.width_px, job.height_px, job.steps) == (64, 64, 4)
    assert (job.guidance_scale, job.negative_prompt, job.source) == (1.0, "", None)
    assert 0 <= job.seed < SEEDS - 1
    about = job.submission
    assert (about.owner, about.job_class, about.batch, about.warnings) == ("me", JobClass.IMAGE, None, ())
    assert about.deadline_at_ms == about.created_at_ms + 3_600_000


def test_a_batch_has_a_day() -> None:
    about = drawn(terms=Terms("me", JobClass.BATCH))[0].submission
    assert about.deadline_at_ms == about.created_at_ms + 86_400_000


def test_everything_that_was_asked_for_is_in_the_job() -> None:
    origin = Origin(PICTURE, 0.5, Resize.FILL, MASK, MaskBy.TRANSPARENT)
    (job,) = drawn(
        negative_prompt="rain", size=PictureSize(64, 96), steps=2, seed=7, guidance_scale=1.5, origin=origin,
        format=PictureFormat.WEBP, quality=80, previews=True, metadata={"for": "me"}, warnings=("hm",),
    )  # fmt: skip
    assert (job.width_px, job.height_px, job.steps, job.seed) == (64, 96, 2, 7)
    assert (job.negative_prompt, job.guidance_scale, job.previews) == ("rain", 1.5, True)
    assert (job.format, job.quality) == (PictureFormat.WEBP, 80)
    assert job.source is not None
    assert (job.source.sha256, job.source.mask_sha256) == (PICTURE.sha256, MASK.sha256)
    assert (job.source.strength, job.source.resize) == (0.5, Resize.FILL)
    assert job.source.mask_by is MaskBy.TRANSPARENT
    assert (job.submission.metadata, job.submission.warnings) == ({"for": "me"}, ("hm",))


@given(count=st.integers(1, 100), seed=st.none() | st.integers(0, SEEDS - 1))
def test_a_set_has_one_batch_and_seeds_that_follow_each_other(count: int, seed: int | None) -> None:
    jobs = drawn(count, seed=seed)
    assert len({job.submission.id for job in jobs}) == count
    first = jobs[0].seed if seed is None else seed
    assert [job.seed for job in jobs] == [(first + index) % SEEDS for index in range(count)]
    batches = {job.submission.batch for job in jobs}
    assert batches == {None} if count == 1 else len(batches) == 1
    assert count == 1 or str(jobs[0].submission.batch).startswith("batch_")


def test_a_batch_that_is_there_is_kept() -> None:
    assert {job.submission.batch for job in drawn(2, Terms("me", JobClass.IMAGE, batch="b"))} == {"b"}


@pytest.mark.parametrize(
    ("values", "param", "words"),
    [
        ({"size": PictureSize(96, 64)}, "size", "its sizes: 64x64, 64x96"),
        ({"size": PictureSize(0, 0)}, "size", "does not draw 0x0"),
        ({"steps": 0}, "steps", "it does in: 1, 2, 4"),
        ({"steps": 3}, "steps", "1, 2, 4"),
        ({"steps": 10_000}, "steps", "1, 2, 4"),
        ({"seed": -1}, "seed", "0 to 4294967295"),
        ({"seed": SEEDS}, "seed", "0 to 4294967295"),
        ({"guidance_scale": 0.9}, "guidance_scale", "1 to 2"),
        ({"guidance_scale": 7.0}, "guidance_scale", "1 to 2"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "1 to 2"),
        ({"quality": 0}, "quality", "1 to 100"),
        ({"prompt": "x" * 10_001}, "prompt", "10001 characters"),
        ({"negative_prompt": "x" * 10_001}, "negative_prompt", "10001 characters"),
        ({"origin": Origin(PICTURE, 0.0)}, "strength", "above 0 and at most 1"),
        ({"origin": Origin(PICTURE, 1.01)}, "strength", "above 0 and at most 1"),
        ({"origin": Origin(PICTURE, float("nan"))}, "strength", "above 0 and at most 1"),
        ({"origin": Origin(PICTURE, float("inf"))}, "strength", "above 0 and at most 1"),
        ({"origin": Origin(PICTURE, 0.2)}, "strength", "at least 0.25"),
        ({"origin": Origin(PICTURE, 0.5), "steps": 1}, "strength", "at least 1"),
        ({"count": 0}, "n", "1 to 100"),
        ({"count": 101}, "n", "1 to 100"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "64 characters"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_named(values: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises((Refusal, JobError)) as refused:
        drawn(**values)
    error = refused.value
    assert isinstance(error, Refusal | JobError)
    problem = of_error(error) if isinstance(error, JobError) else error.problem
    assert problem.param == param
    assert words in problem.message


def test_a_dialect_hears_its_own_words() -> None:
    with pytest.raises(SizeUnsupported) as refused:
        drawn(size=PictureSize(1, 1), names={"size": "width"})
    assert refused.value.param == "width"
    (job,) = drawn(negative_prompt="x", names={"guidance_scale": "cfg_scale"})
    assert job.submission.warnings == ("negative_prompt has no effect while cfg_scale is 1",)


def test_what_has_no_effect_is_told() -> None:
    (job,) = drawn(quality=50)
    assert (job.quality, len(job.submission.warnings)) == (None, 1)
    assert drawn(negative_prompt="x", guidance_scale=1.1)[0].submission.warnings == ()


def test_a_model_that_starts_from_nothing_refuses_pictures() -> None:
    assert PICTURES.pictures is not None
    model = replace(PICTURES, pictures=replace(PICTURES.pictures, from_pictures=False))
    with pytest.raises(JobError, match="cannot start from a picture") as refused:
        image_jobs(Drawing(prompt="x", origin=Origin(PICTURE)), model, TERMS, PLAIN)
    assert refused.value.param == "image"


def test_a_model_that_does_not_say_what_it_draws_is_unusable() -> None:
    with pytest.raises(ModelUnusable):
        image_jobs(Drawing(prompt="x"), replace(PICTURES, pictures=None), TERMS, PLAIN)


@pytest.mark.parametrize(
    "text", ["512", "512x", "x512", "512X512", "5e2x512", "-1x5", "512x512x3", "٣x٣", "1" * 9]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_size(text)
    assert refused.value.problem.param == "size"


def test_a_size_is_width_by_height() -> None:
    assert parse_size("64x96") == PictureSize(width_px=64, height_px=96)
