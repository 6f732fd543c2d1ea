from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from tasks.artifacts import ArtifactStore
from tasks.errors import DiskFull
from tasks.events import ArtifactRef


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def test_a_result_is_found_under_its_hash_with_a_suffix_for_people(
    store: ArtifactStore, tmp_path: Path
) -> None:
    ref = store.save(b"pixels", "image/png")
    sha256 = hashlib.sha256(b"pixels").hexdigest()
    assert ref == ArtifactRef(f"artifacts/{sha256[:2]}/{sha256}.png", "image/png", 6, sha256)
    assert store.path(ref) == tmp_path / ref.path
    assert store.path(ref).read_bytes() == b"pixels"


def test_equal_contents_are_one_file_and_a_damaged_one_is_written_anew(store: ArtifactStore) -> None:
    ref = store.save(b"pixels", "image/png")
    os.utime(store.path(ref), (1.0, 1.0))
    assert store.save(b"pixels", "image/png") == ref
    assert store.path(ref).stat().st_mtime > 1.0, "it would look old to a sweep"
    store.path(ref).write_bytes(b"")
    store.save(b"pixels", "image/png")
    assert store.path(ref).read_bytes() == b"pixels"


def test_an_input_is_found_by_its_hash(store: ArtifactStore) -> None:
    sha256 = store.spool(b"a picture")
    assert store.input(sha256).read_bytes() == b"a picture"
    with pytest.raises(ValueError, match="SHA-256"):
        store.input("../" + sha256[3:])


def test_nothing_outside_of_the_store_is_ever_named(store: ArtifactStore) -> None:
    with pytest.raises(ValueError, match="not among the artifacts"):
        store.path(ArtifactRef("artifacts/../inputs/secret", "image/png", 1, "0" * 64))


def test_a_full_disk_is_an_error_of_its_own_and_leaves_nothing_behind(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="disk is full"):
        store.save(b"pixels", "image/png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class Disk:
    """What would be found after a power cut: what was told to the disk in this order, and nothing else."""

    def __init__(self, root: Path) -> None:
        self._root, self.told = root, list[str]()

    def fsync(self, descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        name = place.relative_to(self._root).as_posix()
        unnamed = place.name.startswith(".")
        self.told.append(f"{name}/" if place.is_dir() else "unnamed" if unnamed else "named")


def test_a_result_its_directory_and_those_above_are_on_the_disk_before_anybody_hears_its_name(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    ref = store.save(b"pixels", "image/png")
    place = f"{Path(ref.path).parent}/"
    assert disk.told == ["./", "artifacts/", "unnamed", place], "the contents come before the name"
    store.save(b"pixels", "image/png")
    assert disk.told[4:] == [place], "another who writes the same may not have come to that yet"
    other = store.spool(b"a picture")
    assert disk.told[5:] == ["./", "unnamed", "inputs/"]
    assert store.input(other).is_file()


def test_previews_do_not_wait_for_the_disk(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    store.save_preview("job_1", b"small", "image/jpeg")
    assert disk.told == []
