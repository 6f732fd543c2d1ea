"""Residency on a real virtual card, with models that only occupy memory and count."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.groups import ModelSettings, VirtualCardSettings
from hardware.card import Card, CardTraits, Mix
from hardware.errors import CardLost, GraphRejected, OutOfCardMemory
from hardware.virtual.card import VirtualCard
from tasks import board, keys
from tasks.board import Catalog, Model, PictureSize, Residents
from tasks.engines import Signals, Sketch, Verdict
from tasks.errors import CardUnavailable, LoadFailed, ModelUnusable, Shutdown, UnknownModel, Unsupported
from tasks.events import Embedded, Event, Finished, Loading, StepDone, TextDelta
from tasks.jobs import (
    ANONYMOUS,
    ChatJob,
    EmbedJob,
    ImageJob,
    JobClass,
    JobId,
    Message,
    ModelJob,
    Sampling,
    Submission,
    new_job_id,
)
from tests.worker import fake_models
from tests.worker.fake_models import FILES, CountingModel, model
from worker.loaded import LoadedModel
from worker.residency import Residency

MIB = 2**20
EPOCH = 7


class Choosy(VirtualCard):
    """Wants networks from ONNX before those of language models, as a real card does."""

    @property
    def traits(self) -> CardTraits:
        return replace(super().traits, mix=Mix.RESTART)


class Calm:
    """Signals of a job nobody disturbs."""

    def __init__(self) -> None:
        self.limits_s: list[float] = []

    def between_steps(self) -> Verdict:
        return Verdict.GO_ON

    def calling_card(self, limit_s: float) -> AbstractContextManager[None]:
        self.limits_s.append(limit_s)
        return nullcontext()


@dataclass
class Shelf:
    """The models room of a test: what there is, and what happens when it is loaded."""

    models: list[Model] = field(default_factory=list)
    fault: Exception | None = None
    loads: list[str] = field(default_factory=list)
    is_stopping: bool = False
    faults_left: int | None = None
    """How often ``fault`` is raised; None: every time."""
    loads_left: int | None = None
    """After so many loads the process is told to stop."""
    sketches: dict[JobId, Sketch] = field(default_factory=dict)

    def find_sketch(self, job: ImageJob) -> Sketch | None:
        return self.sketches.get(job.submission.id)

    def stops(self) -> bool:
        return self.is_stopping or (self.loads_left is not None and len(self.loads) >= self.loads_left)

    def scan(self) -> Catalog:
        return Catalog(0, tuple(self.models))

    def loading(
        self, card: Card, model: Model, size: PictureSize | None
    ) -> Generator[tuple[int, int], None, LoadedModel]:
        self.loads.append(model.id)
        if self.fault is not None and self.faults_left != 0:
            self.faults_left = None if self.faults_left is None else self.faults_left - 1
            raise self.fault
        return (yield from fake_models.loading(card, model, size))


@pytest.fixture
def card(tmp_path: Path) -> Iterator[VirtualCard]:
    with VirtualCard(tmp_path, VirtualCardSettings(memory_mib=64)) as opened:
        yield opened


@pytest.fixture
def shelf() -> Shelf:
    return Shelf([model("a", 30 * MIB), model("b", 30 * MIB), model("c", 30 * MIB), model("huge", 90 * MIB)])


@pytest.fixture
def residency_of(
    card: VirtualCard, store: redis.Redis, shelf: Shelf
) -> Iterator[Callable[[ModelSettings], Residency]]:
    """``residency_of(options)``: over the card, with what stands on the shelf; closed at the end."""
    store.set(keys.epoch(card.info.id), EPOCH)
    made: list[Residency] = []

    def make(options: ModelSettings) -> Residency:
        made.append(
            Residency(card, EPOCH, store, shelf.scan, shelf.loading, shelf.stops, shelf.find_sketch, options)
        )
        return made[-1]

    yield make
    for residency in made:
        residency.close()


@pytest.fixture
def residency(residency_of: Callable[[ModelSettings], Residency]) -> Residency:
    return residency_of(ModelSettings(memory_patience_s=0))


@pytest.fixture
def resident(card: VirtualCard, store: redis.Redis) -> Callable[[], list[str]]:
    def names() -> list[str]:
        fact = board.decode(Residents, store.get(keys.residents(card.info.id)))
        return [one.model for one in fact.models] if fact else []

    return names


def chat(name: str) -> ChatJob:
    submission = Submission(new_job_id(), ANONYMOUS, JobClass.CHAT, 0, metadata={"step_ms": "0"})
    return ChatJob(submission, name, (Message("user", "count"),), Sampling(seed=1, max_tokens=2))


def answer(residency: Residency, name: str, signals: Signals | None = None) -> list[Event]:
    return list(residency.stream(chat(name), emitted=(), signals=signals or Calm()))


def picture(name: str, width_px: int = 1024, height_px: int = 1024) -> ImageJob:
    submission = Submission(new_job_id(), ANONYMOUS, JobClass.IMAGE, 0)
    return ImageJob(submission, name, "a cat", 1, width_px, height_px, steps=2)


def draw(residency: Residency, job: ImageJob, signals: Signals | None = None) -> tuple[list[Event], Finished]:
    events: list[Event] = []
    drawing = residency.draw(job, signals=signals or Calm())
    while True:
        try:
            events.append(next(drawing))
        except StopIteration as end:
            return events, end.value.finish()


def kinds(events: Sequence[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def test_the_first_job_of_a_model_loads_it_and_the_second_finds_it(
    residency: Residency, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    first, second = answer(residency, "a"), answer(residency, "a")
    assert kinds(first) == [Loading, Loading, TextDelta, TextDelta, Finished]
    assert first[1] == Loading("a", FILES, FILES)
    assert kinds(second) == [TextDelta, TextDelta, Finished]
    assert shelf.loads == ["a"]
    assert resident() == ["a"]


def test_the_time_a_job_waited_for_its_model_is_in_its_timings(residency: Residency) -> None:
    first, second = answer(residency, "a")[-1], answer(residency, "a")[-1]
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert first.timings.load_ms > 0
    assert second.timings.load_ms == 0


def test_the_least_recently_used_model_makes_room(
    residency: Residency, resident: Callable[[], list[str]], card: VirtualCard
) -> None:
    for name in ("a", "b", "a", "c"):
        answer(residency, name)
    assert resident() == ["a", "c"]
    assert card.memory().free_bytes == card.memory().total_bytes - 60 * MIB


def test_residents_give_back_what_they_can_do_without_before_one_has_to_go(
    residency: Residency, resident: Callable[[], list[str]], card: VirtualCard
) -> None:
    answer(residency, "a")
    loaded = residency._seats["a"].model
    assert isinstance(loaded, CountingModel)
    loaded.spare = card.allocate(20 * MIB)
    answer(residency, "b")
    assert resident() == ["a", "b"]
    assert loaded.trim() == 0
    answer(residency, "c")
    assert resident() == ["b", "c"]


def test_a_model_that_never_fits_says_so_after_everything_has_made_room(
    residency: Residency, resident: Callable[[], list[str]], card: VirtualCard
) -> None:
    answer(residency, "a")
    with pytest.raises(LoadFailed, match="huge does not fit the card, even with nothing else on it"):
        answer(residency, "huge")
    assert resident() == []
    assert card.memory().free_bytes == card.memory().total_bytes
    assert kinds(answer(residency, "b"))[-1] is Finished


def test_memory_that_comes_back_in_time_is_waited_for(
    shelf: Shelf, residency_of: Callable[[ModelSettings], Residency]
) -> None:
    shelf.fault, shelf.faults_left = OutOfCardMemory("somebody else has it"), 2
    assert kinds(answer(residency_of(ModelSettings()), "a"))[-1] is Finished
    assert shelf.loads == ["a", "a", "a"]


def test_who_waits_for_memory_still_hears_that_it_is_to_stop(
    shelf: Shelf, residency_of: Callable[[ModelSettings], Residency]
) -> None:
    shelf.fault, shelf.loads_left = OutOfCardMemory("somebody else has it"), 2
    with pytest.raises(Shutdown):
        answer(residency_of(ModelSettings()), "a")
    assert len(shelf.loads) == 2


def test_a_load_is_a_call_into_the_card_with_a_limit_by_size(residency: Residency) -> None:
    signals = Calm()
    answer(residency, "a", signals)
    assert signals.limits_s[0] == pytest.approx(60 + 30 * MIB / 20e6)


def test_an_unknown_model_and_an_unusable_one_fail_in_words(residency: Residency, shelf: Shelf) -> None:
    shelf.models.append(Model("broken", "chat", "", 0, 0, problem="layer 3 of 28 is missing"))
    with pytest.raises(UnknownModel, match="'nobody'"):
        answer(residency, "nobody")
    with pytest.raises(ModelUnusable, match="broken: layer 3 of 28 is missing"):
        answer(residency, "broken")
    assert shelf.loads == []


def test_a_name_that_means_a_resident_model_finds_it(residency: Residency, shelf: Shelf) -> None:
    shelf.models = [Model("a", "chat", "", MIB, 0, aliases=("nickname",))]
    answer(residency, "a")
    assert kinds(answer(residency, "nickname")) == [TextDelta, TextDelta, Finished]


def test_a_file_the_card_refuses_fails_the_job_and_not_the_worker(residency: Residency, shelf: Shelf) -> None:
    shelf.fault = GraphRejected("layer 2 is truncated")
    with pytest.raises(LoadFailed, match="layer 2 is truncated"):
        answer(residency, "a")
    assert not residency.is_lost
    shelf.fault = None
    assert kinds(answer(residency, "a"))[-1] is Finished


def test_a_lost_card_ends_the_job_and_is_left_alone(
    residency: Residency, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(residency, "a")
    closed: list[CountingModel] = []
    monkeypatch.setattr(CountingModel, "close", closed.append)
    shelf.fault = CardLost("gone from the bus")
    with pytest.raises(CardUnavailable, match="gone from the bus"):
        answer(residency, "b")
    assert residency.is_lost
    residency.close()
    assert closed == []


def test_told_to_stop_it_leaves_between_two_files_and_leaves_nothing_behind(
    residency: Residency, shelf: Shelf, card: VirtualCard
) -> None:
    stream = residency.stream(chat("a"), emitted=(), signals=Calm())
    assert isinstance(next(stream), Loading)
    shelf.is_stopping = True
    with pytest.raises(Shutdown):
        next(stream)
    assert card.memory().free_bytes == card.memory().total_bytes
    assert residency.loading is None


def test_the_only_usable_chat_model_is_loaded_ahead(
    residency: Residency, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    residency.preload()
    assert shelf.loads == []
    shelf.models = [model("a", MIB), Model("broken", "chat", "", 0, 0, problem="empty")]
    residency.preload()
    assert resident() == ["a"]


def test_a_load_ahead_that_fails_is_not_the_workers_end(residency: Residency, shelf: Shelf) -> None:
    shelf.models = [model("huge", 90 * MIB)]
    residency.preload()
    shelf.is_stopping = True
    shelf.models = [model("a", MIB)]
    residency.preload()


def test_a_worker_that_lost_its_card_to_another_publishes_nothing(
    residency: Residency, store: redis.Redis, card: VirtualCard
) -> None:
    store.set(keys.epoch(card.info.id), EPOCH + 1)
    residency.publish()
    assert not store.exists(keys.residents(card.info.id))


def test_an_absent_redis_does_not_disturb_a_load(card: VirtualCard, shelf: Shelf, tmp_path: Path) -> None:
    away = redis.Redis(unix_socket_path=str(tmp_path / "none.sock"), retry=Retry(NoBackoff(), 0))
    residency = Residency(card, EPOCH, away, shelf.scan, shelf.loading, lambda: False)
    assert kinds(answer(residency, "a"))[-1] is Finished
    residency.close()


def test_times_of_use_are_told_seldom(
    residency: Residency, store: redis.Redis, card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_at_ms() -> int:
        fact = board.decode(Residents, store.get(keys.residents(card.info.id)))
        assert fact is not None
        return fact.models[0].used_at_ms

    answer(residency, "a")
    told = used_at_ms()
    time.sleep(0.002)
    answer(residency, "a")
    residency.publish_when_stale()
    assert used_at_ms() == told
    monkeypatch.setattr("worker.residency._PUBLISH_EVERY_S", 0.0)
    residency.publish_when_stale()
    assert used_at_ms() > told


@pytest.fixture
def painter(shelf: Shelf) -> Model:
    model = Model(id="painter", kind="image", directory="", size_bytes=MIB, created_at_s=0)
    shelf.models.append(model)
    return model


@pytest.mark.usefixtures("painter")
def test_pictures_are_drawn_over_the_same_seats(
    residency: Residency, resident: Callable[[], list[str]]
) -> None:
    answer(residency, "a")
    signals = Calm()
    events, end = draw(residency, picture("painter"), signals)
    assert kinds(events) == [Loading, StepDone, StepDone]
    assert end.timings.load_ms > 0
    assert resident() == ["a", "painter"]
    assert signals.limits_s[0] == pytest.approx(60 + MIB / 20e6)
    events, end = draw(residency, picture("painter"))
    assert kinds(events) == [StepDone, StepDone]
    assert end.timings.load_ms == 0


@pytest.mark.usefixtures("painter")
def test_another_size_is_loaded_beside_the_first(
    residency: Residency, shelf: Shelf, store: redis.Redis, card: VirtualCard
) -> None:
    draw(residency, picture("painter"))
    events, end = draw(residency, picture("painter", 512, 1024))
    assert kinds(events) == [Loading, StepDone, StepDone]
    assert end.timings.load_ms > 0
    assert shelf.loads == ["painter"]
    fact = board.decode(Residents, store.get(keys.residents(card.info.id)))
    assert fact is not None
    assert fact.models[0].size_bytes == 1024 * 1024 + 512 * 1024
    assert fact.models[0].context is None


@pytest.mark.usefixtures("painter")
def test_a_size_makes_room_at_the_cost_of_others_and_never_of_its_own_model(
    residency: Residency, resident: Callable[[], list[str]]
) -> None:
    draw(residency, picture("painter"))
    answer(residency, "a")
    answer(residency, "b")
    draw(residency, picture("painter", 8192, 3584))
    assert resident() == ["painter", "b"]
    with pytest.raises(LoadFailed, match="painter does not fit the card, even with nothing else on it"):
        draw(residency, picture("painter", 8192, 8193))
    assert resident() == ["painter"]
    draw(residency, picture("painter", 8192, 3584))


@pytest.mark.usefixtures("painter")
def test_a_model_of_the_other_kind_refuses_the_job(residency: Residency) -> None:
    draw(residency, picture("painter"))
    with pytest.raises(Unsupported, match="painter does not answer chats") as refused:
        answer(residency, "painter")
    assert refused.value.param == "model"
    with pytest.raises(Unsupported, match="a does not draw pictures"):
        draw(residency, picture("a"))


def embed(residency: Residency, name: str, *texts: str) -> list[Event]:
    job = EmbedJob(Submission(new_job_id(), ANONYMOUS, JobClass.CHAT, 0), name, texts)
    return list(residency.embed(job, emitted=(), signals=Calm()))


def test_vectors_are_made_over_the_same_seats(
    residency: Residency, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    shelf.models.append(replace(model("texts", MIB), kind="embed"))
    answer(residency, "a")
    *_, vector, end = embed(residency, "texts", "one")
    assert isinstance(vector, Embedded)
    assert isinstance(end, Finished)
    assert end.timings.load_ms > 0
    assert resident() == ["a", "texts"]
    with pytest.raises(Unsupported, match="a does not make embeddings"):
        embed(residency, "a", "one")
    with pytest.raises(Unsupported, match="texts does not answer chats"):
        answer(residency, "texts")


def test_a_picture_that_was_drawn_before_needs_no_model(residency: Residency, shelf: Shelf) -> None:
    job = picture("nobody")
    shelf.sketches[job.submission.id] = fake_models.DrySketch(job)
    events, _ = draw(residency, job)
    assert events == []
    assert shelf.loads == []


def manage(residency: Residency, name: str, action: Literal["load", "unload"]) -> list[Event]:
    submission = Submission(new_job_id(), ANONYMOUS, JobClass.CHAT, 0)
    return list(residency.manage(ModelJob(submission, name, action), signals=Calm()))


def test_a_model_can_be_brought_and_taken_off_ahead_of_its_jobs(
    residency: Residency, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    events = manage(residency, "a", "load")
    assert (kinds(events)[0], kinds(events)[-1]) == (Loading, Finished)
    assert resident() == ["a"]
    assert kinds(manage(residency, "a", "load")) == [Finished]
    assert kinds(manage(residency, "a", "unload")) == [Finished]
    assert resident() == []
    assert kinds(manage(residency, "a", "unload")) == [Finished]
    assert shelf.loads == ["a"]


def with_options(card: VirtualCard, store: redis.Redis, shelf: Shelf, **options: Any) -> Residency:
    store.set(keys.epoch(card.info.id), EPOCH)
    return Residency(
        card, EPOCH, store, shelf.scan, shelf.loading, lambda: False, options=ModelSettings(**options)
    )


@pytest.mark.parametrize("by_package", [False, True])
def test_a_pinned_model_makes_no_room_for_others(
    card: VirtualCard, store: redis.Redis, shelf: Shelf, resident: Callable[[], list[str]], by_package: bool
) -> None:
    residency = with_options(card, store, shelf, pinned=() if by_package else ("a",), memory_patience_s=0)
    shelf.models = [replace(each, keep_resident=by_package and each.id == "a") for each in shelf.models]
    for name in ("a", "b", "c"):
        answer(residency, name)
    assert resident() == ["a", "c"]
    facts = board.decode(board.Residents, store.get(keys.residents(card.info.id)))
    assert facts is not None
    assert facts.pinned == ("a",)
    with pytest.raises(LoadFailed, match="even with only a, which are pinned, on it"):
        answer(residency, "huge")
    residency.close()


def test_room_is_made_before_a_model_of_known_need_is_loaded(
    card: VirtualCard, store: redis.Redis, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    shelf.models.append(replace(model("frugal", MIB), needs_bytes=40 * MIB))
    residency = with_options(card, store, shelf)
    answer(residency, "a")
    answer(residency, "frugal")
    assert resident() == ["frugal"], "what is needed counts, not what happens to be taken first"
    residency.close()


def test_what_could_not_fit_an_empty_card_is_not_even_tried(
    card: VirtualCard, store: redis.Redis, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    shelf.models.append(replace(model("giant", MIB), needs_bytes=65 * MIB))
    residency = with_options(card, store, shelf)
    answer(residency, "a")
    with pytest.raises(LoadFailed, match="more than there is"):
        answer(residency, "giant")
    assert resident() == ["a"]
    assert "giant" not in shelf.loads
    residency.close()


def test_the_models_that_the_settings_name_are_loaded_first(
    card: VirtualCard, store: redis.Redis, shelf: Shelf, resident: Callable[[], list[str]]
) -> None:
    residency = with_options(card, store, shelf, preload=("b", "nobody", "a"))
    residency.preload()
    assert resident() == ["b", "a"]
    residency.close()


@pytest.fixture
def choosy(tmp_path: Path, store: redis.Redis, shelf: Shelf) -> Iterator[Residency]:
    with Choosy(tmp_path / "choosy", VirtualCardSettings(memory_mib=64)) as card:
        store.set(keys.epoch(card.info.id), EPOCH)
        residency = Residency(card, EPOCH, store, shelf.scan, shelf.loading, lambda: False)
        yield residency
        residency.close()


@pytest.mark.usefixtures("painter")
def test_pictures_after_a_chat_want_a_fresh_process(choosy: Residency, shelf: Shelf) -> None:
    answer(choosy, "a")
    with pytest.raises(Shutdown):
        draw(choosy, picture("painter"))
    assert choosy.must_leave
    assert shelf.loads == ["a"]


def test_embeddings_after_a_chat_want_a_fresh_process_as_well(choosy: Residency, shelf: Shelf) -> None:
    shelf.models.append(replace(model("texts", MIB), kind="embed"))
    embed(choosy, "texts", "one")
    answer(choosy, "a")
    embed(choosy, "texts", "one")  # it is there already
    manage(choosy, "texts", "unload")
    with pytest.raises(Shutdown):
        embed(choosy, "texts", "one")
    assert choosy.must_leave


@pytest.mark.usefixtures("painter")
def test_pictures_before_a_chat_are_fine_and_another_size_after_it_is_not(
    choosy: Residency, shelf: Shelf
) -> None:
    draw(choosy, picture("painter"))
    answer(choosy, "a")
    draw(choosy, picture("painter"))
    assert shelf.loads == ["painter", "a"]
    with pytest.raises(Shutdown):
        draw(choosy, picture("painter", 512, 1024))
    assert choosy.must_leave


@pytest.mark.usefixtures("painter")
def test_no_chat_is_loaded_ahead_where_pictures_come_first(choosy: Residency, shelf: Shelf) -> None:
    shelf.models = [each for each in shelf.models if each.id in ("a", "painter")]
    choosy.preload()
    assert shelf.loads == []


@pytest.mark.parametrize(("missing", "is_told"), [(0, False), (100, False), (200, True), (None, False)])
def test_memory_that_does_not_come_back_ends_the_process(
    residency: Residency, card: VirtualCard, missing: int | None, is_told: bool
) -> None:
    for name in ("a", "b", "c"):
        answer(residency, name)
    free_bytes, now_ms = card.memory().free_bytes, int(time.time() * 1000)
    early, late = (
        board.Telemetry(
            read_at_ms=now_ms + later_ms,
            memory_free_bytes=None if missing is None else free_bytes - missing * MIB,
        )
        for later_ms in (0, 60_000)
    )
    for reading in (None, early):
        residency.compare_memory(reading)
        assert not residency.must_leave
    residency.compare_memory(late)
    assert residency.must_leave == is_told


def test_memory_is_not_looked_after_before_something_was_unloaded(
    residency: Residency, card: VirtualCard
) -> None:
    answer(residency, "a")
    residency.compare_memory(board.Telemetry(read_at_ms=2**50, memory_free_bytes=0))
    assert not residency.must_leave
