"""Several answers to one request: as many jobs, alike but for their seeds."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from api.errors import Refusal
from config.groups import LimitSettings
from tasks.jobs import ChatJob, new_batch_id, new_job_id

_SEED_BITS = 63


def choices(job: ChatJob, count: int, limits: LimitSettings, where: str = "n") -> list[ChatJob]:
    """``count`` jobs, the first of them ``job``: what it answers alone, it answers among others.

    More than one share a batch. Raises Refusal when there would be too many.
    """
    if count > limits.choices:
        raise Refusal("invalid_value", f"'{where}' may ask for at most {limits.choices} answers", where)
    if count == 1:
        return [job]
    about = job.submission
    batch = about.batch or new_batch_id()
    return [
        replace(
            job,
            submission=replace(about, id=about.id if index == 0 else new_job_id(), batch=batch),
            sampling=replace(job.sampling, seed=seed_of(job.sampling.seed, index)),
        )
        for index in range(count)
    ]


def seed_of(seed: int, choice: int) -> int:
    """The seed of a request's ``choice``-th answer, from 0: the request's own, and then others made of it.

    Not the ones that follow it, which another request may well be given.
    """
    if choice == 0:
        return seed
    digest = hashlib.sha256(f"{seed} {choice}".encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - _SEED_BITS)
