"""What is kept of ended jobs and for how long: records and the files they refer to leave together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis

from config.settings import Settings
from tasks import documents, keys, scripts
from tasks.artifacts import ArtifactStore, StoredFile
from tasks.connection import replies
from tasks.documents import DocumentStore

log = logging.getLogger("hearth.tasks.retention")

SWEEP_EVERY_S = 60.0
"""How often all files are looked at."""
LEFTOVER_S = 3600.0
"""A file that no record refers to is left over after so long: until then its job may be about to end, or to
be submitted."""
REUSED_S = 600.0
"""A file that lost its last reference stays when it was used again within this time: a job that makes the
same picture may be about to end."""
_AT_ONCE = 100
"""Jobs forgotten in one beat, so that Redis is never kept busy for long."""
_BRIEF_AT_ONCE = 1000
"""The same for those that were answered on the line, of which hundreds may come in a second."""
_CHUNK = 500


class Retention:
    """Forgets ended jobs that are too old, or the oldest when files take too much room; sweeps leftovers.

    Both methods raise redis.RedisError. To be called only while the clock is steady.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        files: ArtifactStore | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._redis = replies(client)
        self._queue = settings.queue
        self._files = files or ArtifactStore(settings.data_dir)
        self._documents = DocumentStore(settings.data_dir)
        self._now_s = now_s

    def retire(self, wall_ms: float) -> list[str]:
        """Forget what has been kept long enough; a replayed request must still find its job.

        Vectors that somebody waited for go much sooner: a library of texts would fill Redis' memory.
        """
        keep_s = max(self._queue.retention_s, self._queue.idempotency_ttl_s)
        brief = self._ended_before(keys.BRIEF, wall_ms - self._queue.vectors_ttl_s * 1000, _BRIEF_AT_ONCE)
        old = self._ended_before(keys.ENDED, wall_ms - keep_s * 1000, _AT_ONCE)
        return [job_id for job_id in (*brief, *old) if self._forget(job_id) is not None]

    def _ended_before(self, index: str, until_ms: float, most: int) -> list[str]:
        return _ids(self._redis.zrangebyscore(index, "-inf", until_ms, start=0, num=most))

    def sweep(self) -> tuple[list[str], list[str]]:
        """Make room where files take too much, and remove what is left over.

        Returns the jobs that were forgotten and the files that were left over.
        """
        files = self._files.files()
        forgotten = self._make_room(files)
        self._drop_previews()
        self._drop_drawings()
        self._drop_documents()
        return forgotten, [file.path for file in self._leftovers(files)]

    def _make_room(self, files: Iterable[StoredFile]) -> list[str]:
        sizes = {file.path: file.size_bytes for file in files}
        over = sum(sizes.values()) - self._queue.retention_bytes
        forgotten: list[str] = []
        # Not a loop until there is room: one that is still needed goes to the end of the line.
        for _ in range(_AT_ONCE):
            oldest = _ids(self._redis.zrange(keys.FILED, 0, 0)) if over > 0 else []
            if not oldest:
                break
            orphans = self._forget(oldest[0])
            if orphans is not None:
                over -= sum(sizes.get(path, 0) for path in orphans)
                forgotten.append(oldest[0])
        if forgotten:
            log.info("%d jobs were forgotten to make room for newer files", len(forgotten))
        return forgotten

    def _forget(self, job_id: str) -> list[str] | None:
        """Remove a record and its files; the files nobody refers to any more. None: it stays.

        The record goes first: a file without a record is found by the next sweep, a record without its file
        would be shown.
        """
        was_removed, *orphans = scripts.run(self._redis, "forget", job_id)
        if not was_removed:
            return None
        paths = [path.decode() for path in orphans]
        for path in paths:
            self._files.discard(path, touched_before_s=self._now_s() - REUSED_S)
        self._files.drop_previews(job_id)
        return paths

    def _leftovers(self, files: Iterable[StoredFile]) -> Iterator[StoredFile]:
        """Remove the files that nobody refers to, and yield them."""
        before_s = self._now_s() - LEFTOVER_S
        old = [file for file in files if file.changed_at_s < before_s]
        for start in range(0, len(old), _CHUNK):
            chunk = old[start : start + _CHUNK]
            counts: Any = self._redis.hmget(keys.FILES, [file.path for file in chunk])
            for file, count in zip(chunk, counts, strict=True):
                if count is None and self._files.discard(file.path, touched_before_s=before_s):
                    log.info("%s was left over: removed", file.path)
                    yield file

    def _drop_previews(self) -> None:
        """Previews go with the journal that tells of them."""
        before_s = self._now_s() - LEFTOVER_S
        for job_id, changed_at_s in self._files.previewed():
            if changed_at_s < before_s and not self._redis.exists(keys.journal(job_id)):
                self._files.drop_previews(job_id)

    def _drop_drawings(self) -> None:
        """Pixels go with the job that they would have become a file of."""
        before_s = self._now_s() - LEFTOVER_S
        for job_id, changed_at_s in self._files.drawings():
            state = self._redis.hget(keys.job(job_id), "state")
            if changed_at_s < before_s and state not in (b"queued", b"running"):
                self._files.drawing(job_id).unlink(missing_ok=True)

    def _drop_documents(self) -> None:
        """Files of ``/v1/files`` whose time is over, and bytes that nobody knows of."""
        now_s = self._now_s()
        for document_id in documents.drop_due(self._redis, self._documents, now_s * 1000, _AT_ONCE):
            log.info("%s had its time: removed", document_id)
        for name in documents.drop_unknown(self._redis, self._documents, now_s - LEFTOVER_S):
            log.info("files/%s was left over: removed", name)


def _ids(raw: Iterable[bytes]) -> list[str]:
    return [job_id.decode() for job_id in raw]
