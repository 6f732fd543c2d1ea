"""What of a catalogue can be pulled, and what of it is never read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api.errors import Refusal
from api.packages import shelf
from api.packages.shelf import Package
from config.groups import ModelSettings

SUM = "0" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


def put(root: Path, name: str, **files: str) -> Package:
    place = root / name
    place.mkdir(parents=True, exist_ok=True)
    for file, text in (files or {"a.axmodel": "a"}).items():
        (place / file).write_text(text)
    return Package(name.lower(), place, root)


def models(*places: Path, allow: tuple[str, ...] = ("*",)) -> ModelSettings:
    return ModelSettings(catalogue=places, catalogue_allow=allow)


@pytest.mark.parametrize("name", ["Qwen3-4B", "qwen3-4b", "qwen3:4b", "AXERA-TECH/Qwen3-4B", "house-llm"])
def test_a_package_is_found_by_every_name_it_goes_by(root: Path, name: str) -> None:
    put(root, "Qwen3-4B", **{"hearth.toml": 'alias = "House LLM"'})
    assert shelf.find(models(root), name).directory == root / "Qwen3-4B"


def test_the_first_catalogue_that_has_it_wins(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "share", "m")
    put(root, "m")
    assert shelf.find(models(tmp_path / "share", root), "m").root == tmp_path / "share"


def test_what_is_not_there_is_told_with_where_it_was_looked_for(root: Path, tmp_path: Path) -> None:
    put(root, "here")
    put(root, "secret")
    with pytest.raises(Refusal) as refused:
        shelf.find(models(root, tmp_path / "unplugged", allow=("h*",)), "gone")
    told = refused.value.problem
    assert told.code == "model_not_found"
    assert f"in {root}, {tmp_path}/unplugged (not there: is it mounted?)" in told.message
    assert "what can be pulled: here." in told.message


def test_without_a_catalogue_it_says_which_setting_names_one() -> None:
    with pytest.raises(Refusal, match="HEARTH_MODELS__CATALOGUE"):
        shelf.find(models(), "m")


def test_what_is_not_allowed_is_refused_by_name(root: Path) -> None:
    put(root, "big")
    with pytest.raises(Refusal, match="CATALOGUE_ALLOW") as refused:
        shelf.find(models(root, allow=("small-*",)), "big")
    assert refused.value.problem.code == "permission_denied"
    assert shelf.find(models(root, allow=("small-*", "B?g")), "big").id == "big"


def test_hidden_files_are_no_part_of_a_package(root: Path) -> None:
    package = put(root, "m", **{".gitattributes": "x", "b": "bb", "a": "a"})
    (root / "m" / ".git").mkdir()
    (root / "m" / ".git" / "objects").write_text("x" * 100)
    (root / "m" / "tokenizer").mkdir()
    (root / "m" / "tokenizer" / "t.json").write_text("ttt")
    found = shelf.listing(package)
    assert [file.path for file in found.files] == ["a", "b", "tokenizer/t.json"]
    assert found.total_bytes == 6


def test_a_link_inside_the_catalogue_is_followed_and_one_that_leads_out_is_not(
    root: Path, tmp_path: Path
) -> None:
    package = put(root, "m")
    (root / "blobs").mkdir()
    (root / "blobs" / "1234").write_text("weights")
    (package.directory / "w").symlink_to("../blobs/1234")
    assert shelf.listing(package).total_bytes == 8
    (tmp_path / "secret").write_text("s3cret")
    (package.directory / "w").unlink()
    (package.directory / "w").symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal, match="'w' in it leads out of the catalogue"):
        shelf.listing(package)
    with pytest.raises(Refusal, match="leads out"):
        shelf.open_inside(package, "w")


def test_a_package_that_is_itself_a_link_out_of_the_catalogue_is_none(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "m")
    (root / "m").symlink_to(tmp_path / "elsewhere" / "m")
    with pytest.raises(Refusal) as refused:
        shelf.find(models(root), "m")
    assert refused.value.problem.code == "model_not_found"


def test_a_directory_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    package = put(root, "m")
    (package.directory / "loop").symlink_to(package.directory)
    with pytest.raises(Refusal, match="'loop' in it is no plain file"):
        shelf.listing(package)


def test_pipes_and_sockets_are_refused_and_nobody_waits_for_them(root: Path) -> None:
    package = put(root, "m")
    os.mkfifo(package.directory / "pipe")
    with pytest.raises(Refusal, match="'pipe' in it is no plain file"):
        shelf.listing(package)
    with pytest.raises(Refusal, match="no plain file"):
        shelf.open_inside(package, "pipe")


def test_sums_are_read_as_sha256sum_writes_them(root: Path) -> None:
    sums = f"{SUM}  a\n{'F' * 64} *./sub dir/b\n"
    package = put(root, "m", a="a", SHA256SUMS=sums)
    with pytest.raises(Refusal, match="not whole: SHA256SUMS names 'sub dir/b'"):
        shelf.listing(package)
    (package.directory / "sub dir").mkdir()
    (package.directory / "sub dir" / "b").write_text("b")
    told = {file.path: file.sha256 for file in shelf.listing(package).files}
    assert told == {"SHA256SUMS": None, "a": SUM, "sub dir/b": "f" * 64}


@pytest.mark.parametrize("line", ["MD5 (a) = 00", f"{SUM[1:]}  a", "../../etc/passwd"])
def test_sums_in_another_form_are_refused(root: Path, line: str) -> None:
    with pytest.raises(Refusal, match="a line that sha256sum does not write"):
        shelf.listing(put(root, "m", a="a", SHA256SUMS=line))


def test_an_empty_directory_is_no_package(root: Path) -> None:
    (root / "m").mkdir()
    with pytest.raises(Refusal, match="empty"):
        shelf.listing(Package("m", root / "m", root))


def test_any_change_changes_the_digest(root: Path) -> None:
    package = put(root, "m", a="a", b="b")
    before = shelf.listing(package).digest
    assert shelf.listing(package).digest == before
    os.utime(package.directory / "b", ns=(1, 1))
    assert shelf.listing(package).digest != before
