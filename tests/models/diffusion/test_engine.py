"""A whole picture on the virtual card, against what diffusers drew with the same small model."""

from __future__ import annotations

import io
import resource
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from hardware.card import Graph, Tensors
from hardware.errors import OutOfCardMemory
from models.catalog import describe
from models.diffusion import calls
from models.diffusion.engine import PictureEngine
from models.diffusion.image import Pixels, decode, encode
from models.diffusion.sketch import PictureSketch
from models.load import find_sketch, loading
from tasks.artifacts import ArtifactStore
from tasks.board import Model, PictureSize
from tasks.engines import Signals, Verdict
from tasks.errors import DiskFull, EngineError, PictureUnreadable, Shutdown, SizeUnsupported, Unsupported
from tasks.events import Cancelled, Event, Expired, Preview, StepDone
from tasks.jobs import ANONYMOUS, ImageJob, JobClass, MaskBy, Resize, Source, Submission, new_job_id
from tasks.pictures.header import PictureFormat
from tasks.pictures.infotext import parse
from tasks.pictures.texts import read_texts
from tests.golden.pictures import (
    ARRAYS,
    GUIDANCE,
    HEIGHT_PX,
    NEGATIVE,
    PROMPT,
    SEED,
    STEPS,
    STRENGTHS,
    WIDTH_PX,
    source_picture,
)
from tests.models.cards import OtherCard, Scripted
from tests.models.diffusion.tiny import write_tiny

Result = TypeVar("Result")

GOLDEN = np.load(ARRAYS)
SIZE = PictureSize(WIDTH_PX, HEIGHT_PX)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path) -> ArtifactStore:
    return ArtifactStore(data_dir)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tiny(tmp_path_factory.mktemp("packages") / "tiny")
    write_tiny(root / "models_128x64", 128, 64, text=False, encoder=False)
    return root


@pytest.fixture
def picture_model(package: Path) -> Model:
    return describe(package)


def load_all(card: OtherCard, model: Model, data_dir: Path, size: PictureSize | None = None) -> PictureEngine:
    loaded = last(loading(card, model, size, data_dir=data_dir))
    assert isinstance(loaded, PictureEngine)
    return loaded


def last(steps: Generator[Any, None, Result]) -> Result:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


@pytest.fixture
def engine(card: OtherCard, picture_model: Model, data_dir: Path) -> Iterator[PictureEngine]:
    engine = load_all(card, picture_model, data_dir)
    yield engine
    engine.close()


def job(**changes: Any) -> ImageJob:
    submission = Submission(new_job_id(), ANONYMOUS, JobClass.IMAGE, 0)
    plain = ImageJob(submission, "tiny", PROMPT, SEED, WIDTH_PX, HEIGHT_PX, steps=4)
    return replace(plain, **changes)


def draw(
    engine: PictureEngine, wanted: ImageJob, signals: Signals | None = None
) -> tuple[list[Event], PictureSketch | None]:
    events: list[Event] = []
    drawing = engine.draw(wanted, signals or Scripted())
    while True:
        try:
            events.append(next(drawing))
        except StopIteration as end:
            return events, end.value


def sketch(engine: PictureEngine, wanted: ImageJob) -> PictureSketch:
    _, made = draw(engine, wanted)
    assert made is not None
    return made


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray[Any, Any]]:
    """What the UNet and the VAE decoder are given, scaled for the UNet, in order."""
    seen: list[np.ndarray[Any, Any]] = []
    real = calls.call

    def spied(graph: Graph, feeds: Tensors, signals: Signals) -> Tensors | Verdict:
        if "sample" in feeds:
            seen.append(feeds["sample"])
        if "x" in feeds:
            seen.append(feeds["x"] * np.float32(0.18215))
        return real(graph, feeds, signals)

    monkeypatch.setattr(calls, "call", spied)
    return seen


def check(name: str, latents: list[np.ndarray[Any, Any]], pixels: Pixels) -> None:
    expected = GOLDEN[f"{name}.latents"]
    assert len(latents) == len(expected)
    for found, wanted in zip(latents, expected, strict=True):
        assert np.abs(found[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()
    # Half-way between two values of a pixel, the last bit decides.
    assert np.abs(pixels.astype(int) - GOLDEN[f"{name}.image"].astype(int)).max() <= 1


@pytest.mark.parametrize("steps", STEPS)
def test_a_picture_is_the_one_diffusers_draws(
    engine: PictureEngine, latents: list[np.ndarray[Any, Any]], steps: int
) -> None:
    made = sketch(engine, job(steps=steps))
    check(f"txt2img.{steps}", latents, made.drawing.pixels)


def test_guidance_takes_two_passes_a_step_as_diffusers_does(
    engine: PictureEngine, latents: list[np.ndarray[Any, Any]], card: OtherCard
) -> None:
    made = sketch(engine, job(guidance_scale=GUIDANCE, negative_prompt=NEGATIVE))
    assert card.counters.executes == 2 + 2 * 4 + 1
    check("guided", [*latents[:-1:2], latents[-1]], made.drawing.pixels)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_picture_from_a_picture_is_the_one_diffusers_draws(
    engine: PictureEngine, latents: list[np.ndarray[Any, Any]], store: ArtifactStore, strength: float
) -> None:
    sha256 = store.spool(encode(source_picture(), PictureFormat.PNG))
    made = sketch(engine, job(source=Source(sha256, strength)))
    check(f"img2img.{strength}", latents, made.drawing.pixels)


def test_the_events_count_the_steps_and_the_file_tells_how_it_was_made(
    engine: PictureEngine, data_dir: Path, picture_model: Model
) -> None:
    events, made = draw(engine, job())
    assert events == [StepDone(done, 4) for done in (1, 2, 3, 4)]
    assert made is not None
    end = made.finish()
    data = (data_dir / end.output[0].path).read_bytes()
    assert np.array_equal(decode(data), made.drawing.pixels)
    told = parse(read_texts(data)["parameters"])
    assert told.prompt == PROMPT
    assert picture_model.pictures is not None
    sha256 = picture_model.pictures.sha256
    assert sha256 is not None
    assert told.fields == {
        "Steps": "4",
        "Sampler": "LCM",
        "CFG scale": "1",
        "Seed": "42",
        "Size-1": str(WIDTH_PX),
        "Size-2": str(HEIGHT_PX),
        "Model hash": sha256[:10],
        "Model": "tiny",
        "RNG": "CPU",
        "Version": "Hearth 0.1.0",
    }
    assert end.timings.steps_ms > 0
    assert end.timings.file_ms > 0
    assert end.usage.prompt_tokens > 0


@pytest.mark.parametrize("kind", PictureFormat)
def test_every_format_is_written_and_says_what_it_is(
    engine: PictureEngine, data_dir: Path, kind: PictureFormat
) -> None:
    (ref,) = sketch(engine, job(format=kind)).finish().output
    assert ref.media_type == f"image/{kind.value}"
    with Image.open(data_dir / ref.path) as opened:
        assert opened.format == kind.value.upper()
        assert opened.size == (WIDTH_PX, HEIGHT_PX)


def test_quality_is_honoured_where_a_format_has_one(engine: PictureEngine) -> None:
    sizes = [
        sketch(engine, job(format=PictureFormat.JPEG, quality=quality)).finish().output[0].size_bytes
        for quality in (10, 95)
    ]
    assert sizes[0] < sizes[1]


def test_the_same_job_is_the_same_file_and_another_seed_another(engine: PictureEngine) -> None:
    refs = [sketch(engine, job(seed=seed)).finish().output[0].sha256 for seed in (7, 7, 8)]
    assert refs[0] == refs[1] != refs[2]


def test_a_prompt_is_encoded_once(engine: PictureEngine, card: OtherCard) -> None:
    sketch(engine, job())
    before = card.counters.executes
    sketch(engine, job(seed=1))
    assert card.counters.executes - before == 4 + 1


def test_what_is_cut_off_is_told(engine: PictureEngine) -> None:
    made = sketch(engine, job(prompt="red " * 80 + "cat", negative_prompt="blue"))
    (long,) = made.finish().warnings
    assert "the prompt has 82 tokens and the model reads 75" in long
    assert "'red red red red red cat'" in long
    # That it has no effect was told when the job was accepted.
    assert "Negative prompt" not in made.drawing.text


def test_previews_are_small_files_after_every_step_but_the_last(
    engine: PictureEngine, data_dir: Path
) -> None:
    wanted = job(previews=True)
    events, _ = draw(engine, wanted)
    shown = [event for event in events if isinstance(event, Preview)]
    assert [preview.step for preview in shown] == [1, 2, 3]
    for preview in shown:
        assert wanted.submission.id in preview.picture.path
        with Image.open(data_dir / preview.picture.path) as opened:
            assert opened.size == (WIDTH_PX, HEIGHT_PX)


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        pytest.param({"steps": 51}, "steps", "1 to 50 steps, not 51", id="steps"),
        pytest.param({"guidance_scale": 7.0}, "guidance_scale", "from 1 to 2", id="guidance"),
        pytest.param({"guidance_scale": 0.5}, "guidance_scale", "from 1 to 2", id="low guidance"),
        pytest.param({"source": Source("0" * 64, 0.2)}, "strength", "use 0.25 or more", id="strength"),
        pytest.param({"source": Source("0" * 64, 1.5)}, "strength", "at most 1", id="too strong"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name_before_any_card_work(
    engine: PictureEngine, card: OtherCard, changes: dict[str, Any], param: str, words: str
) -> None:
    before = card.counters.executes
    with pytest.raises(Unsupported, match=words) as refused:
        draw(engine, job(**changes))
    assert refused.value.param == param
    assert card.counters.executes == before


def test_a_size_that_is_not_in_the_package_is_refused_with_those_that_are(engine: PictureEngine) -> None:
    with pytest.raises(SizeUnsupported, match="80x64, 64x128 pixels, not 512x512"):
        next(engine.bring(PictureSize(512, 512)))


def test_a_source_that_is_gone_or_no_picture_is_told(engine: PictureEngine, store: ArtifactStore) -> None:
    with pytest.raises(PictureUnreadable, match="not there any more") as gone:
        draw(engine, job(source=Source("0" * 64, 0.5)))
    assert gone.value.param == "image"
    good = store.spool(encode(source_picture(), PictureFormat.PNG))
    bad = store.spool(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(PictureUnreadable, match="the mask cannot be read") as unreadable:
        draw(engine, job(source=Source(good, 0.5, mask_sha256=bad)))
    assert unreadable.value.param == "mask"


@pytest.mark.parametrize("by", MaskBy)
def test_what_the_mask_keeps_stays_to_the_last_bit(
    engine: PictureEngine, store: ArtifactStore, by: MaskBy
) -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX, 4), np.uint8)
    mask[:, 40:, :3] = 255 if by is MaskBy.WHITE else 0
    mask[:, :, 3] = 255
    mask[:, 40:, 3] = 255 if by is MaskBy.WHITE else 0
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    source = Source(
        store.spool(encode(source_picture(), PictureFormat.PNG)),
        1.0,
        mask_sha256=store.spool(file.getvalue()),
        mask_by=by,
    )
    pixels = sketch(engine, job(source=source)).drawing.pixels
    assert np.array_equal(pixels[:, :40], source_picture()[:, :40])
    assert not np.array_equal(pixels[:, 40:], source_picture()[:, 40:])


def test_the_masked_latent_is_the_sources_own_after_every_step(
    engine: PictureEngine, latents: list[np.ndarray[Any, Any]], store: ArtifactStore
) -> None:
    source = Source(
        store.spool(encode(source_picture(), PictureFormat.PNG)),
        0.5,
        mask_sha256=store.spool(encode(np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8), PictureFormat.PNG)),
    )
    sketch(engine, job(source=source))
    kept = list(latents)
    latents.clear()
    # With nothing to draw, what the UNet says has no effect, and the same noise lies over the same source.
    sketch(engine, job(source=source, prompt="something else"))
    for one, other in zip(kept, latents, strict=True):
        assert np.array_equal(one, other)
    free = replace(source, mask_sha256=None)
    latents.clear()
    sketch(engine, job(source=free))
    assert np.array_equal(kept[0], latents[0])
    assert not np.array_equal(kept[-1], latents[-1])


def test_a_transparent_mask_without_transparency_keeps_everything(
    engine: PictureEngine, store: ArtifactStore
) -> None:
    sha256 = store.spool(encode(source_picture(), PictureFormat.PNG))
    source = Source(sha256, 1.0, mask_sha256=sha256, mask_by=MaskBy.TRANSPARENT)
    assert np.array_equal(sketch(engine, job(source=source)).drawing.pixels, source_picture())


@pytest.mark.parametrize("mode", Resize)
def test_a_source_of_another_shape_is_fitted(
    engine: PictureEngine, store: ArtifactStore, mode: Resize
) -> None:
    wide = np.repeat(source_picture(), 3, axis=1)
    sha256 = store.spool(encode(wide, PictureFormat.PNG))
    assert sketch(engine, job(source=Source(sha256, 0.5, resize=mode))).drawing.pixels.shape == (64, 80, 3)


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize(
    ("verdict", "kind"), [(Verdict.CANCEL, Cancelled), (Verdict.EXPIRE, Expired), (Verdict.LOST, None)]
)
def test_it_stops_before_any_call_into_the_card(
    engine: PictureEngine, card: OtherCard, at: int, verdict: Verdict, kind: type[Event] | None
) -> None:
    before = card.counters.executes
    events, made = draw(engine, job(), Scripted(at, verdict))
    stopped = at <= 6
    assert (made is None) is stopped
    assert card.counters.executes - before == min(at - 1, 6)
    if stopped:
        told = [event for event in events if not isinstance(event, StepDone)]
        assert [type(event) for event in told] == ([kind] if kind else [])


def test_told_to_shut_down_it_leaves_at_once(engine: PictureEngine) -> None:
    with pytest.raises(Shutdown):
        draw(engine, job(), Scripted(3, Shutdown))


def test_another_size_comes_on_demand_and_shares_the_text_encoder(
    engine: PictureEngine, card: OtherCard, package: Path
) -> None:
    tall = PictureSize(64, 128)
    empty_bytes = card.memory().free_bytes + engine.size_bytes
    assert not engine.has(tall)
    assert list(engine.bring(tall)) == [(1, 2), (2, 2)]
    assert engine.has(tall)
    assert engine.has(SIZE)
    text = (package / "text_encoder" / "sd15_text_encoder_sim.axmodel").stat().st_size
    assert engine.size_bytes == empty_bytes - card.memory().free_bytes > text
    made = sketch(engine, job(width_px=64, height_px=128))
    assert made.drawing.pixels.shape == (128, 64, 3)
    with pytest.raises(Unsupported, match="only draws from text"):
        draw(engine, job(width_px=64, height_px=128, source=Source("0" * 64, 0.5)))


def test_short_of_memory_it_keeps_the_size_that_was_asked_for_last(
    engine: PictureEngine, card: OtherCard
) -> None:
    tall = PictureSize(64, 128)
    list(engine.bring(tall))
    used = card.memory().free_bytes
    assert engine.trim() == card.memory().free_bytes - used > 0
    assert engine.has(tall)
    assert not engine.has(SIZE)
    assert engine.trim() == 0
    sketch(engine, job(width_px=64, height_px=128))


def test_a_load_that_fails_half_way_leaves_nothing(
    card: OtherCard, picture_model: Model, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, loaded, empty_bytes = card.load, 0, card.memory().free_bytes

    def short(path: Path) -> Any:
        nonlocal loaded
        loaded += 1
        if loaded == 3:
            raise OutOfCardMemory("full")
        return real(path)

    monkeypatch.setattr(card, "load", short)
    with pytest.raises(OutOfCardMemory):
        load_all(card, picture_model, data_dir)
    assert card.memory().free_bytes == empty_bytes


def test_a_decoder_that_gives_no_numbers_is_an_error_in_words(
    engine: PictureEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.call

    def broken(graph: Graph, feeds: Tensors, signals: Signals) -> Tensors | Verdict:
        made = real(graph, feeds, signals)
        assert not isinstance(made, Verdict)
        return {
            name: values * np.float32(np.nan) if name == "image" else values for name, values in made.items()
        }

    monkeypatch.setattr(calls, "call", broken)
    with pytest.raises(EngineError, match="no numbers"):
        draw(engine, job())


def test_pixels_that_were_put_aside_become_the_same_file_without_the_card(
    engine: PictureEngine, data_dir: Path
) -> None:
    wanted = job()
    made = sketch(engine, wanted)
    made.keep()
    found = find_sketch(wanted, data_dir)
    assert found is not None
    again, first = found.finish(), made.finish()
    assert again.output == first.output
    assert (again.usage, again.warnings) == (first.usage, first.warnings)
    found.discard()
    assert find_sketch(wanted, data_dir) is None


def test_pixels_that_were_put_aside_and_cut_short_are_drawn_again(
    engine: PictureEngine, data_dir: Path
) -> None:
    wanted = job()
    sketch(engine, wanted).keep()
    (file,) = (data_dir / "drawings").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert find_sketch(wanted, data_dir) is None
    file.write_bytes(b"")
    assert find_sketch(wanted, data_dir) is None


def test_a_full_disk_fails_the_picture_and_nothing_else(engine: PictureEngine) -> None:
    made = sketch(engine, job())
    with disk_of(100):
        made.keep()
        with pytest.raises(DiskFull, match="the server's disk is full"):
            made.finish()
    assert made.finish().output


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """No file may become larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
