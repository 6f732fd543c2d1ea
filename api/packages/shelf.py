"""The catalogue: directories of this machine that packages may be taken from, and what lies in one package.

What is read lies inside the catalogue, whatever links in it say: each file is opened first and asked then
where it is.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from api.errors import Refusal
from config.groups import ModelSettings
from tasks.naming import slug

SUMS = "SHA256SUMS"
"""A package may bring one, as ``sha256sum`` writes it; what it names must be there and be the same."""
_MANIFEST = "hearth.toml"
_MOST_FILES, _DEEPEST = 10_000, 6
_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_SUMS_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Package:
    """A package that can be pulled: the id it will have, where it is, and the catalogue it must not leave."""

    id: str
    directory: Path
    root: Path


@dataclass(frozen=True, slots=True)
class File:
    """One file of a package; ``path`` is relative to it. ``sha256`` is None where nobody has said it."""

    path: str
    size_bytes: int
    changed_ns: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """All files of a package; ``digest`` tells it from one in which anything has changed since."""

    files: tuple[File, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        lines = (f"{file.path}\n{file.size_bytes}\n{file.changed_ns}\n{file.sha256}\n" for file in self.files)
        return sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def find(models: ModelSettings, name: str) -> Package:
    """The package of that name in the first catalogue that has one. Blocking.

    Names are compared as ids (``qwen3:4b`` is ``qwen3-4b``), with or without what stands before a slash.

    Raises:
        Refusal: there is none, or it may not be pulled.
    """
    wanted = {slug(name), slug(name.rpartition("/")[2])}
    for package in packages(models.catalogue):
        if wanted & _names(package):
            if not _is_allowed(models, package):
                raise Refusal(
                    "permission_denied",
                    f"the package '{package.id}' is in the catalogue, but "
                    "HEARTH_MODELS__CATALOGUE_ALLOW does not let it be pulled",
                    "model",
                )
            return package
    raise Refusal("model_not_found", f"pull model manifest: {_nowhere(models, name)}", "model")


def packages(catalogue: Sequence[Path]) -> Iterator[Package]:
    """Every directory of every catalogue, hidden ones aside. Blocking. What cannot be read has none."""
    for place in catalogue:
        with suppress(OSError):
            root = place.resolve(strict=True)
            for child in sorted(root.iterdir()):
                if child.is_dir() and not child.name.startswith(".") and child.resolve().is_relative_to(root):
                    yield Package(slug(child.name), child, root)


def listing(package: Package) -> Listing:
    """What is in it, sorted by path; hidden files are no part of it. Blocking.

    Raises:
        Refusal: something in it is no plain file, lies outside the catalogue, or is named in ``SHA256SUMS``
            and not there.
        OSError: it cannot be read.
    """
    found = sorted(_walk(package, package.directory, _DEEPEST), key=lambda file: file.path)
    if not found:
        raise Refusal("package_refused", f"'{package.id}' is an empty directory in the catalogue", "model")
    sums = _sums(package) if any(file.path == SUMS for file in found) else {}
    missing = sorted(set(sums) - {file.path for file in found})
    if missing:
        told = f"'{package.id}' is not whole: {SUMS} names {missing[0]!a}, which is not there"
        raise Refusal("package_refused", told, "model")
    files = (File(file.path, file.size_bytes, file.changed_ns, sums.get(file.path)) for file in found)
    return Listing(tuple(files))


def open_inside(package: Package, path: str) -> int:
    """A descriptor of the file at ``path`` in the package, which is a plain one inside the catalogue.

    Raises:
        Refusal: it is not.
        OSError: it cannot be opened.
    """
    # Non-blocking: the opening of a pipe would wait for a writer.
    descriptor = os.open(package.directory / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        real = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - what was opened, not its name
        if not real.is_relative_to(package.root):
            raise _refused(package, path, f"leads out of the catalogue, to {real}")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(package, path, "is no plain file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _walk(package: Package, directory: Path, depth: int) -> Iterator[File]:
    with os.scandir(directory) as entries:
        children = [entry for entry in entries if not entry.name.startswith(".")]
    if len(children) > _MOST_FILES:
        raise _refused(package, str(directory), f"holds more than {_MOST_FILES} files")
    for child in children:
        path = str(Path(child.path).relative_to(package.directory))
        if child.is_dir(follow_symlinks=False):
            if depth == 1:
                raise _refused(package, path, "lies too deep")
            yield from _walk(package, Path(child.path), depth - 1)
            continue
        if not (child.is_file() or child.is_symlink()):
            raise _refused(package, path, "is no plain file")
        descriptor = open_inside(package, path)
        try:
            told = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        yield File(path, told.st_size, told.st_mtime_ns)


def _sums(package: Package) -> dict[str, str]:
    """``SHA256SUMS``, path → sum."""
    with os.fdopen(open_inside(package, SUMS), "rb") as file:
        text = file.read(_SUMS_BYTES).decode("utf-8", "surrogateescape")
    found = {}
    for line in filter(None, text.splitlines()):
        matched = _SUM.fullmatch(line)
        if matched is None:
            raise _refused(package, SUMS, f"has a line that sha256sum does not write: {line[:80]!a}")
        found[matched[2]] = matched[1].lower()
    return found


def _refused(package: Package, path: str, why: str) -> Refusal:
    return Refusal("package_refused", f"'{package.id}' cannot be pulled: {path!a} in it {why}", "model")


def _names(package: Package) -> set[str]:
    """Its id, and what its owner calls it."""
    names: set[str] = {package.id}
    with suppress(OSError, Refusal, ValueError):
        with os.fdopen(open_inside(package, _MANIFEST), "rb") as file:
            told = tomllib.loads(file.read(_SUMS_BYTES).decode())
        names |= {slug(told[key]) for key in ("alias",) if isinstance(told.get(key), str)}
        names |= {slug(alias) for alias in told.get("aliases", ()) if isinstance(alias, str)}
    return names


def _is_allowed(models: ModelSettings, package: Package) -> bool:
    return any(fnmatchcase(package.id, pattern.lower()) for pattern in models.catalogue_allow)


def _nowhere(models: ModelSettings, name: str) -> str:
    """Why there is no such package: where it was looked for, and what there is instead."""
    here = f"there is no model {name[:100]!a} here"
    if not models.catalogue:
        return (
            f"{here}, and this server downloads none: put its package into the models directory, or name a "
            "directory of packages in HEARTH_MODELS__CATALOGUE"
        )
    places = ", ".join(
        str(place) if place.is_dir() else f"{place} (not there: is it mounted?)" for place in models.catalogue
    )
    can = [package.id for package in packages(models.catalogue) if _is_allowed(models, package)]
    return (
        f"{here}, nor a package of that name in {places}; what can be pulled: {', '.join(can) or 'nothing'}. "
        "This server downloads nothing"
    )
