"""Stands in for a worker: writes the journals of many chat jobs at a steady rate, as fast cards would.

Started by ``bench.queue`` as a process of its own, so that its work is not the API's. It takes every job of
the queue ``chat.<MODEL>`` by the same claim, scribe and scripts as the real worker; only the card is missing.
"""

from __future__ import annotations

import sys
import threading
import time

import redis

from config.settings import settings as read_settings
from tasks import keys
from tasks.board import Catalog, Model, encode
from tasks.claim import claimed
from tasks.connection import connect, replies
from tasks.events import Finished, TextDelta, Timings, Usage
from tasks.jobs import FinishReason, JobClass, JobId, queue_name
from tasks.ownership import Owner, take_card

MODEL = "bench-stream"
CARD = "bench-0"


def publish_model(client: redis.Redis) -> None:
    """Make the API accept jobs for ``MODEL``."""
    model = Model(id=MODEL, kind="chat", directory="", size_bytes=0, created_at_s=0, context=100_000)
    client.set(keys.CATALOG, encode(Catalog(int(time.time() * 1000), (model,))))


def main(streams: int, tokens: int, tokens_per_s: float) -> None:
    """Wait until ``streams`` jobs are queued, then write ``tokens`` tokens into each, evenly spread."""
    settings = read_settings()
    client = connect(settings)
    publish_model(client)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    jobs = _await_jobs(client, streams)
    owner = take_card(CARD, client, settings)
    begin = time.monotonic() + 0.5
    threads = [
        threading.Thread(
            target=_produce, args=(owner, job, begin + i / tokens_per_s / streams, tokens, tokens_per_s)
        )
        for i, job in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _await_jobs(client: redis.Redis, streams: int) -> list[JobId]:
    queue = keys.queue(queue_name(JobClass.CHAT, MODEL))
    while client.zcard(queue) < streams:
        time.sleep(0.02)
    return [JobId(job.decode()) for job in replies(client).zrange(queue, 0, -1)]


def _produce(owner: Owner, job_id: JobId, begin: float, tokens: int, tokens_per_s: float) -> None:
    with claimed(job_id, owner) as claim:
        if claim is None:
            raise RuntimeError(f"{job_id} was taken by somebody else")
        for number in range(tokens):
            time.sleep(max(0.0, begin + number / tokens_per_s - time.monotonic()))
            claim.append(TextDelta(f"{number}:{time.monotonic_ns()}\n", (number,)))
        claim.append(Finished(FinishReason.STOP, Usage(1, tokens), Timings()))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
