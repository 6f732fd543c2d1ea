"""A package out of the models directory: off the card first, then out of sight, then off the disk."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from api.context import Context
from api.errors import Refusal
from api.packages.copying import STAGING
from api.packages.pulls import known
from api.unloading import take_off
from tasks import records
from tasks.board import Model

log = logging.getLogger("hearth.api")

TRASH = ".trash-"
"""What the names of packages on their way out begin with."""
_UNLISTED_S = 30.0
_LOOK_S = 0.25
_STALE_S = 7 * 86400.0
"""What was begun so long ago and never gone on with is not waited for any more."""


async def remove(shared: Context, owner: str, model: Model) -> None:
    """Take the model off the card and its package off the disk; return when the catalog knows it no more.

    Raises:
        Refusal: it is not ours to delete, jobs need it, or it cannot be taken off the card.
    """
    directory = _ours(shared, model)
    await _refuse_while_needed(shared, model)
    if await take_off(shared, owner, model):
        await _refuse_while_needed(shared, model)
    try:
        await asyncio.to_thread(discard, directory)
    except OSError as error:
        told = f"{directory} cannot be removed: {error.strerror}; the API's process must own its directory"
        raise Refusal("storage_failed", told) from error
    log.info("removed %s for %s", directory, owner)
    await _unlisted(shared, directory)


def discard(directory: Path) -> None:
    """Remove a package. It is gone at once, whatever happens while its files go. Blocking. Raises OSError."""
    trash = directory.with_name(f"{TRASH}{directory.name}-{secrets.token_hex(4)}")
    directory.rename(trash)
    if trash.is_symlink():
        trash.unlink()
    else:
        shutil.rmtree(trash)


def tidy(models_dir: Path) -> None:
    """Remove what a process that died has left on its way out, or a week ago on its way in. Blocking."""
    with suppress(OSError):
        for place in list(models_dir.iterdir()):
            is_stale = place.name.startswith(STAGING) and time.time() - _touched_s(place) > _STALE_S
            if place.name.startswith(TRASH) or is_stale:
                shutil.rmtree(place, ignore_errors=True)


def _touched_s(place: Path) -> float:
    return max(os.lstat(path).st_ctime for path in (place, *place.rglob("*")))


def _ours(shared: Context, model: Model) -> Path:
    """The package's directory, if it may go. Raises Refusal."""
    directory, ours = Path(model.directory), shared.settings.packages_dir
    if model.is_demo:
        told = f"'{model.id}' is one of Hearth's demo models: HEARTH_DEMO_MODELS=false hides them"
        raise Refusal("permission_denied", told, "model")
    if directory.parent != ours or directory.name in ("", ".", ".."):
        told = f"'{model.id}' lies outside the models directory {ours}: nothing there is removed from here"
        raise Refusal("permission_denied", told, "model")
    return directory


async def _refuse_while_needed(shared: Context, model: Model) -> None:
    overview = await records.overview(shared.redis)
    jobs = sum(line.queued + line.running for line in overview.queues if line.model == model.id)
    if jobs:
        many = "1 job needs" if jobs == 1 else f"{jobs} jobs need"
        told = f"{many} '{model.id}': wait for them, or cancel them (GET /v1/jobs?model={model.id})"
        raise Refusal("model_busy", told, "model")


async def _unlisted(shared: Context, directory: Path) -> None:
    """Wait until the monitor has seen that it is gone; without a monitor it is gone all the same."""
    give_up_s = time.monotonic() + _UNLISTED_S
    while time.monotonic() < give_up_s:
        with suppress(RedisError):
            if all(model.directory != str(directory) for model in (await known(shared.board)).models):
                return
        await asyncio.sleep(_LOOK_S)
