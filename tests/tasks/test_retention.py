"""Files of jobs: they live as long as a record refers to them, and no longer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings
from tasks import events, jobs, keys, scripts
from tasks.artifacts import ArtifactStore, input_paths
from tasks.claim import claimed
from tasks.events import ArtifactRef
from tasks.jobs import ImageJob, JobClass, JobState, MaskBy, Source
from tasks.ownership import Owner
from tasks.retention import LEFTOVER_S, REUSED_S, Retention
from tasks.submit import submit

DAY_S = 86_400.0


@dataclass
class House:
    """A store of files, a clock that is told, and the jobs of a test."""

    store: redis.Redis
    astore: redis.asyncio.Redis
    settings: Settings
    owner: Owner
    files: ArtifactStore
    now_s: float

    def retention(self, retention_bytes: int = 10**9) -> Retention:
        queue = QueueSettings(retention_bytes=retention_bytes)
        settings = self.settings.model_copy(update={"queue": queue})
        return Retention(self.store, settings, self.files, lambda: self.now_s)

    async def submit(self, source: Source | None = None) -> ImageJob:
        about = jobs.Submission(jobs.new_job_id(), jobs.ANONYMOUS, JobClass.BATCH, 0)
        job = ImageJob(about, "sd", "a cat", 1, 64, 64, steps=2, source=source)
        await submit(self.astore, job, self.settings)
        return job

    async def picture(self, data: bytes, source: Source | None = None) -> tuple[ImageJob, ArtifactRef]:
        """A job that has made a file of ``data``, an hour and a half ago."""
        job = await self.submit(source)
        with claimed(job.submission.id, self.owner) as claim:
            assert claim is not None
            ref = self.files.save(data, "image/png")
            claim.append(
                events.Finished(jobs.FinishReason.STOP, events.Usage(1, 0), events.Timings(), (ref,))
            )
        self.age(self.files.path(ref), 1.5 * LEFTOVER_S)
        return job, ref

    def age(self, path: Path, by_s: float) -> None:
        at_s = self.now_s - by_s
        os.utime(path, (at_s, at_s))

    def is_there(self, ref: ArtifactRef) -> bool:
        return self.files.path(ref).exists()

    def state(self, job: ImageJob) -> str | None:
        raw: Any = self.store.hget(keys.job(job.submission.id), "state")
        return None if raw is None else raw.decode()

    def references(self) -> dict[str, int]:
        raw: Any = self.store.hgetall(keys.FILES)
        return {path.decode(): int(count) for path, count in raw.items()}

    def retire_all(self, retention: Retention) -> list[str]:
        return retention.retire(self.now_s * 1000 + 8 * DAY_S * 1000)


@pytest.fixture
def house(
    store: redis.Redis, astore: redis.asyncio.Redis, settings: Settings, owner: Owner, tmp_path: Path
) -> House:
    seconds, _ = store.time()
    return House(store, astore, settings, owner, ArtifactStore(tmp_path), float(seconds))


async def test_record_and_file_leave_together(house: House) -> None:
    old, ref = await house.picture(b"old")
    house.files.save_preview(old.submission.id, b"small", "image/jpeg")
    assert house.references() == {ref.path: 1}
    retention = house.retention()
    assert retention.retire(house.now_s * 1000) == []
    assert house.is_there(ref)
    assert house.retire_all(retention) == [old.submission.id]
    assert house.state(old) is None
    assert not house.is_there(ref)
    assert not house.files.previews(old.submission.id).exists()
    assert house.references() == {}
    assert house.store.zcard(keys.FILED) == 0


async def test_a_file_that_two_jobs_made_stays_for_the_second(house: House) -> None:
    first, ref = await house.picture(b"same")
    _, other = await house.picture(b"same")
    assert ref == other
    assert house.references() == {ref.path: 2}
    house.store.zadd(keys.ENDED, {first.submission.id: 0})
    retention = house.retention()
    assert retention.retire(house.now_s * 1000) == [first.submission.id]
    assert house.is_there(ref)
    assert house.references() == {ref.path: 1}
    house.retire_all(retention)
    assert not house.is_there(ref)


async def test_the_oldest_go_when_files_take_too_much_room(house: House) -> None:
    made = [await house.picture(bytes([number]) * 1000) for number in range(5)]
    assert house.retention(5000).sweep() == ([], [])
    forgotten, _ = house.retention(2500).sweep()
    assert forgotten == [job.submission.id for job, _ in made[:3]]
    assert [house.is_there(ref) for _, ref in made] == [False] * 3 + [True] * 2
    assert [house.state(job) for job, _ in made] == [None] * 3 + ["succeeded"] * 2
    assert house.retention(2500).sweep() == ([], [])


async def test_jobs_without_files_are_not_forgotten_for_room(house: House) -> None:
    plain = await house.submit()
    scripts.run(house.store, "cancel", plain.submission.id, "requested", 1000)
    _, ref = await house.picture(b"x" * 1000)
    house.retention(10).sweep()
    assert house.state(plain) == "cancelled"
    assert not house.is_there(ref)


async def test_an_input_stays_while_a_job_waits_for_it_and_goes_with_the_last_record(house: House) -> None:
    sha256, mask = house.files.spool(b"picture"), house.files.spool(b"mask")
    source = Source(sha256, 0.5, mask_sha256=mask, mask_by=MaskBy.WHITE)
    done, ref = await house.picture(b"made", source)
    waiting = await house.submit(Source(sha256, 0.5))
    for name in (sha256, mask):
        house.age(house.files.input(name), 10 * DAY_S)
    assert house.references() == {ref.path: 1, f"inputs/{sha256}": 2, f"inputs/{mask}": 1}
    retention = house.retention()
    retention.sweep()
    house.retire_all(retention)
    assert house.state(done) is None
    assert (house.files.input(sha256).exists(), house.files.input(mask).exists()) == (True, False)
    scripts.run(house.store, "cancel", waiting.submission.id, "requested", 1000)
    house.retire_all(retention)
    assert not house.files.input(sha256).exists()


async def test_a_picture_that_is_its_own_mask_is_one_reference(house: House) -> None:
    sha256 = house.files.spool(b"both")
    job = await house.submit(Source(sha256, 0.5, mask_sha256=sha256))
    assert input_paths(job) == (f"inputs/{sha256}",)
    assert house.references() == {f"inputs/{sha256}": 1}


async def test_a_request_that_is_repeated_refers_once(house: House) -> None:
    sha256 = house.files.spool(b"picture")
    job = await house.submit(Source(sha256, 0.5))
    await submit(house.astore, job, house.settings)
    assert house.references() == {f"inputs/{sha256}": 1}


async def test_an_end_that_is_told_twice_refers_once(house: House) -> None:
    job, ref = await house.picture(b"once")
    end = events.Finished(jobs.FinishReason.STOP, events.Usage(1, 0), events.Timings(), (ref,))
    args = (job.submission.id, house.owner.epoch, 1, JobState.SUCCEEDED, events.encode(end), 1000, 1, 0)
    assert scripts.run(house.store, "finish", *args, "output", f'[{{"path":"{ref.path}"}}]') == 0
    assert house.references() == {ref.path: 1}


async def test_what_nobody_refers_to_is_swept_when_it_is_old(house: House, tmp_path: Path) -> None:
    kept, ref = await house.picture(b"kept")
    orphan = house.files.save(b"of a worker that died before it could tell", "image/png")
    refused = house.files.input(house.files.spool(b"of a job that was not taken"))
    unfinished = tmp_path / "inputs" / ".half.1234"
    unfinished.write_bytes(b"half")
    leftovers = [house.files.path(orphan), refused, unfinished]
    assert house.retention().sweep() == ([], [])
    for path in leftovers:
        house.age(path, LEFTOVER_S + 10)
    _, swept = house.retention().sweep()
    assert sorted(swept) == sorted(str(path.relative_to(tmp_path)) for path in leftovers)
    assert not any(path.exists() for path in leftovers)
    assert house.is_there(ref)
    assert house.state(kept) == "succeeded"


async def test_previews_and_pixels_go_with_what_tells_of_them(house: House) -> None:
    job = await house.submit()
    preview = house.files.previews(job.submission.id)
    drawing = house.files.drawing(job.submission.id)
    house.files.save_preview(job.submission.id, b"small", "image/jpeg")
    drawing.parent.mkdir()
    drawing.write_bytes(b"pixels")
    for path in (preview, drawing):
        house.age(path, 2 * LEFTOVER_S)
    house.retention().sweep()
    assert preview.exists()
    assert drawing.exists()
    scripts.run(house.store, "cancel", job.submission.id, "requested", 1000)
    house.store.delete(keys.journal(job.submission.id))
    house.retention().sweep()
    assert not preview.exists()
    assert not drawing.exists()


async def test_a_file_that_is_made_again_while_its_record_goes_is_there_afterwards(house: House) -> None:
    _, ref = await house.picture(b"again")
    house.files.save(b"again", "image/png")
    house.retire_all(house.retention())
    assert house.is_there(ref), "a job that is about to end has just made the same"
    house.age(house.files.path(ref), REUSED_S + LEFTOVER_S)
    house.retention().sweep()
    assert not house.is_there(ref)


def test_a_file_that_is_used_again_between_look_and_grasp_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ArtifactStore(tmp_path)
    ref = files.save(b"contested", "image/png")
    os.utime(files.path(ref), (1.0, 1.0))
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == files.path(ref):
            files.save(b"contested", "image/png")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert not files.discard(ref.path, touched_before_s=1000.0)
    assert files.path(ref).read_bytes() == b"contested"


def test_a_file_that_is_made_again_while_it_is_taken_away_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ArtifactStore(tmp_path)
    ref = files.save(b"contested", "image/png")
    os.utime(files.path(ref), (1.0, 1.0))
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        moved = real(path, target)
        files.save(b"contested", "image/png")
        return moved

    monkeypatch.setattr(Path, "rename", rename)
    assert files.discard(ref.path, touched_before_s=1000.0)
    assert files.path(ref).read_bytes() == b"contested"


def test_a_save_finds_out_that_the_file_it_was_to_share_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ArtifactStore(tmp_path)
    ref = files.save(b"contested", "image/png")
    real = os.utime

    def utime(path: Path, *times: object) -> None:
        path.unlink()
        real(path)

    monkeypatch.setattr(os, "utime", utime)
    assert files.save(b"contested", "image/png") == ref
    assert files.path(ref).read_bytes() == b"contested"
