"""What a request asks of the queue, beside its work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from api.errors import Refusal
from config.groups import LimitSettings
from config.settings import Settings
from tasks.jobs import JobClass, Submission, new_job_id
from tasks.webhooks.words import Announcement

_METADATA_KEY, _METADATA_VALUE = 64, 512


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose the job is and how it waits; ``deadline_s`` None takes the settings' for its class.

    ``custom_id`` is what the client calls the line of the batch that asks for it; ``notes`` tell of how it
    waits. ``announcement``: what webhooks are told when it has ended; None for a job that somebody waits for.
    """

    owner: str
    job_class: JobClass
    has_reader: bool = False
    deadline_s: float | None = None
    batch: str | None = None
    custom_id: str | None = None
    notes: tuple[str, ...] = ()
    announcement: Announcement | None = None

    def submission(
        self,
        settings: Settings,
        *,
        metadata: Mapping[str, str] | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Submission:
        """A new job's own part, with a new id. Raises Refusal for metadata beyond its bounds."""
        now_ms = time.time_ns() // 1_000_000
        deadline_s = self.deadline_s or self._deadline_s(settings)
        return Submission(
            id=new_job_id(),
            owner=self.owner,
            job_class=self.job_class,
            created_at_ms=now_ms,
            has_reader=self.has_reader,
            deadline_at_ms=now_ms + round(deadline_s * 1000),
            batch=self.batch,
            custom_id=self.custom_id,
            metadata=checked_metadata(metadata or {}, settings.limits),
            warnings=(*self.notes, *warnings),
            announcement=self.announcement,
        )

    def last(self, note: str) -> Terms:
        """The same behind everybody else, and ``note`` says why."""
        return replace(self, job_class=JobClass.BATCH, notes=(*self.notes, note))

    def _deadline_s(self, settings: Settings) -> float:
        queue = settings.queue
        if self.job_class is JobClass.BATCH and self.has_reader:
            return queue.flex_deadline_s
        return {
            JobClass.PRIORITY: queue.chat_deadline_s,
            JobClass.CHAT: queue.chat_deadline_s,
            JobClass.IMAGE: queue.image_deadline_s,
            JobClass.BATCH: queue.batch_deadline_s,
        }[self.job_class]


def checked_metadata(pairs: Mapping[str, str], limits: LimitSettings) -> Mapping[str, str]:
    """The same pairs. Raises Refusal for those beyond their bounds."""
    if len(pairs) > limits.metadata_pairs:
        raise Refusal(
            "invalid_value", f"'metadata' may hold at most {limits.metadata_pairs} pairs", "metadata"
        )
    for key, text in pairs.items():
        if len(key) > _METADATA_KEY:
            raise Refusal(
                "invalid_value", f"a key of 'metadata' exceeds {_METADATA_KEY} characters", "metadata"
            )
        if len(text) > _METADATA_VALUE:
            where = f"metadata.{key}"
            raise Refusal("invalid_value", f"'{where}' exceeds {_METADATA_VALUE} characters", where)
    return pairs
