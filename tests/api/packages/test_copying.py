"""A package on its way: whole, or not there at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from api.errors import Refusal
from api.packages import copying
from api.packages.copying import Copying, Line, Stopped
from api.packages.shelf import Package, listing
from config.settings import CHECKOUT

FILES = {"layer0": b"0" * 3000, "layer1": b"1" * 5000, "tokenizer/t.json": b"{}"}


class Place(NamedTuple):
    package: Package
    models_dir: Path
    told: list[Line]

    def copying(self, is_stopped: Callable[[], bool] = lambda: False) -> Copying:
        return Copying(self.package, self.models_dir, self.told.append, is_stopped)

    def hidden(self) -> list[Path]:
        return [path for path in self.models_dir.iterdir() if path.name.startswith(".")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path / "stick"
    for name, data in FILES.items():
        path = root / "Tiny-1B" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "models").mkdir()
    return Place(Package("tiny-1b", root / "Tiny-1B", root), tmp_path / "models", [])


def sums(place: Place, **wrong: str) -> None:
    lines = [f"{wrong.get(name, sha256(data).hexdigest())}  {name}\n" for name, data in FILES.items()]
    (place.package.directory / "SHA256SUMS").write_text("".join(lines))


def test_everything_arrives_as_it_was(place: Place) -> None:
    target = place.copying().run()
    assert target == place.models_dir / "Tiny-1B"
    for name, data in FILES.items():
        assert (target / name).read_bytes() == data
        assert (target / name).stat().st_mtime == (place.package.directory / name).stat().st_mtime
    assert place.hidden() == []


def test_it_tells_what_ollama_tells(place: Place) -> None:
    sums(place)
    digest = listing(place.package).digest
    place.copying().run()
    total = sum(map(len, FILES.values())) + (place.package.directory / "SHA256SUMS").stat().st_size
    statuses = list(dict.fromkeys(line["status"] for line in place.told))
    layer = f"pulling {digest[:12]}"
    assert statuses == ["pulling manifest", layer, "verifying sha256 digest", "writing manifest"]
    progress = [line for line in place.told if "completed" in line]
    assert progress[-1] == {
        "status": layer,
        "digest": f"sha256:{digest}",
        "total": total,
        "completed": total,
    }
    assert progress[0]["completed"] == 0


def test_without_sums_it_does_not_claim_to_verify_them(place: Place) -> None:
    place.copying().run()
    assert "verifying sizes" in [line["status"] for line in place.told]


def test_a_wrong_sum_keeps_the_package_out_and_the_file_is_copied_again(place: Place) -> None:
    sums(place, layer1="0" * 64)
    with pytest.raises(Refusal, match="'layer1' does not have the checksum"):
        place.copying().run()
    assert not (place.models_dir / "Tiny-1B").exists()
    (staging,) = place.hidden()
    assert sorted(path.name for path in staging.iterdir()) == ["SHA256SUMS", "layer0", "tokenizer"]


def test_what_was_stopped_goes_on_after_the_last_whole_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PIECE_BYTES", 1000)
    pieces = iter(range(100))
    with pytest.raises(Stopped):
        place.copying(lambda: next(pieces) >= 5).run()
    (staging,) = place.hidden()
    first = (staging / "layer0").stat()
    assert not (place.models_dir / "Tiny-1B").exists()
    assert not (staging / "layer1").exists()
    target = place.copying().run()
    assert (target / "layer0").stat().st_ino == first.st_ino, "it was copied once more"
    assert (target / "layer1").read_bytes() == FILES["layer1"]
    assert sorted(path.name for path in target.iterdir()) == ["layer0", "layer1", "tokenizer"]


def test_a_package_that_has_changed_meanwhile_begins_anew(place: Place) -> None:
    with pytest.raises(Stopped):
        place.copying(lambda: True).run()
    (place.package.directory / "layer0").write_bytes(b"new")
    assert (place.copying().run() / "layer0").read_bytes() == b"new"
    assert place.hidden() == []


def test_a_file_that_grows_while_it_is_read_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = listing(place.package)
    (place.package.directory / "layer1").write_bytes(b"1" * 6000)
    monkeypatch.setattr(copying, "listing", lambda _: stated)
    with pytest.raises(Refusal, match="'layer1' has changed while it was copied"):
        place.copying().run()
    assert not (place.models_dir / "Tiny-1B").exists()


def test_a_disk_without_room_is_told_before_anything_is_copied(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place.models_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(Refusal, match="needs 64 MiB more on the disk") as refused:
        place.copying().run()
    assert refused.value.problem.code == "disk_full"
    assert [path for staging in place.hidden() for path in staging.iterdir()] == []


def test_a_disk_that_fills_up_on_the_way_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refusal, match="is full; what was copied is kept"):
        place.copying().run()


def test_a_catalogue_that_is_pulled_out_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = listing(place.package)
    (place.package.directory / "layer1").unlink()
    monkeypatch.setattr(copying, "listing", lambda _: stated)
    with pytest.raises(Refusal, match="'tiny-1b' cannot be read from the catalogue: No such file") as refused:
        place.copying().run()
    assert refused.value.problem.code == "storage_failed"


def test_another_process_at_the_same_package_is_told(place: Place) -> None:
    with pytest.raises(Stopped):
        place.copying(lambda: True).run()
    (staging,) = place.hidden()
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another process is copying"):
            place.copying().run()
    finally:
        os.close(descriptor)


def test_what_came_by_another_way_is_left_alone(place: Place) -> None:
    (place.models_dir / "Tiny-1B").mkdir()
    assert list(place.copying().run().iterdir()) == []


def test_a_killed_process_leaves_nothing_that_looks_like_a_package(place: Place) -> None:
    program = """
import sys, time
from pathlib import Path
from api.packages import copying
from api.packages.shelf import Package
copying._PIECE_BYTES = 1000
def slow():
    print("piece", flush=True)
    time.sleep(0.05)
    return False
root, models = map(Path, sys.argv[1:])
copying.Copying(Package("tiny-1b", root / "Tiny-1B", root), models, lambda _: None, slow).run()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(place.package.root), str(place.models_dir)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert process.stdout is not None
    for _ in range(5):  # layer0 is whole then, layer1 is not
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    visible = [path for path in place.models_dir.iterdir() if not path.name.startswith(".")]
    assert visible == []
    began_s = time.time()
    target = place.copying().run()
    assert (target / "layer0").stat().st_ctime < began_s, "what was whole is not copied again"
    assert all((target / name).read_bytes() == data for name, data in FILES.items())


def test_a_directory_that_is_not_ours_is_told(place: Place, tmp_path: Path) -> None:
    shutil.rmtree(place.models_dir)
    place.models_dir.write_text("a file")
    with pytest.raises(Refusal, match="must own that directory") as refused:
        place.copying().run()
    assert refused.value.problem.code == "storage_failed"
