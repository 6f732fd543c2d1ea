"""Whether weeks of work leave anything behind: thousands of short jobs through a whole ``hearth up``.

Chats of one to four tokens, and pictures where a picture model is there, are submitted in lists and kept for
seconds instead of days, so that forgetting is a part of the run. The memory of the API, of the process that
owns the card and of Redis is sampled; a leak is a slope, in bytes per job, that does not go away. At last
every record has to leave. Picture files outlast records that are kept for less than ten minutes, until they
are an hour old (``tasks/retention.py``): a run of minutes sees all of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import redis

from bench import stack
from bench.report import Row, arguments, at_most, tell

KEPT_S = 20
ENVIRONMENT = {
    # Forgotten are at most 100 jobs a beat, so the pulse is quick.
    "HEARTH_THERMAL__POLL_S": "0.5",
    "HEARTH_QUEUE__RETENTION_S": str(KEPT_S),
    "HEARTH_QUEUE__IDEMPOTENCY_TTL_S": str(KEPT_S),
    "HEARTH_QUEUE__JOURNAL_TTL_S": str(KEPT_S // 2),
    "HEARTH_LOG_LEVEL": "warning",
}
LIST = 200
"""Jobs submitted in one request."""
DEPTH = 400
"""More is submitted when fewer wait."""
LEAST_JOBS = 4 * DEPTH
PICTURE_EVERY = 50
WARM_UP = 0.25
"""The share of the jobs before memory is held against anything: caches fill, allocators find their size."""
SAMPLE_S = 1.0
SETTLE_LIMIT_S = 3 * KEPT_S
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look found, after ``ended`` jobs. ``owner``: the process id of the card's owner."""

    at_s: float
    ended: int
    api_bytes: int
    worker_bytes: int
    redis_bytes: int
    redis_keys: int
    files: int
    owner: int


class House:
    """A running server, as the bench sees it: its processes, its Redis, its files."""

    def __init__(self, server: stack.Stack) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=60.0)
        self._data_dir = server.data_dir
        self._server = psutil.Process(server.pid)
        self._api = self._child(lambda process: process.cmdline()[-2:] == ["-m", "api"])
        self._npu = self._child(lambda process: process.cmdline()[-2:] == ["worker", "npu"])
        self._redis = redis.Redis.from_url(self._api.environ()["HEARTH_REDIS_URL"], protocol=2)
        self._began_s = time.monotonic()

    def sample(self, submitted: int) -> Sample:
        owner = self._npu.children()[0]
        keys: Any = self._redis.dbsize()
        memory: Any = self._redis.info("memory")
        return Sample(
            at_s=time.monotonic() - self._began_s,
            ended=submitted - self.pending(),
            api_bytes=self._api.memory_info().rss,
            worker_bytes=owner.memory_info().rss,
            redis_bytes=int(memory["used_memory"]),
            redis_keys=int(keys),
            files=self.files(),
            owner=owner.pid,
        )

    def pending(self) -> int:
        """Jobs that wait or run."""
        told = self.http.get("/v1/queue").raise_for_status().json()
        return int(told["queued"] + told["running"])

    def files(self) -> int:
        """Pictures that are kept."""
        return sum(path.is_file() for path in (self._data_dir / "artifacts").rglob("*"))

    def failures(self) -> list[dict[str, Any]]:
        """The youngest jobs that failed."""
        found = self.http.get("/v1/jobs", params={"state": "failed", "limit": 5}).raise_for_status().json()
        return list(found["data"])

    def _child(self, is_it: Callable[[psutil.Process], bool]) -> psutil.Process:
        return next(process for process in self._server.children() if is_it(process))


def main(argv: Sequence[str] | None = None) -> int:
    """Run, tell, draw. Returns 1 when a bound was missed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs to run in all")
    parser.add_argument("--minutes", type=float, default=60.0, help="submit nothing more after so long")
    options = parser.parse_args(argv)
    if options.jobs < LEAST_JOBS:
        parser.error(f"--jobs {options.jobs}: a slope needs at least {LEAST_JOBS}")
    with stack.running(ENVIRONMENT) as server:
        house = House(server)
        samples = soak(house, options.jobs, options.minutes * 60)
        left = settled(house, samples[-1].ended)
    figures = figures_of(samples, left)
    rows = rows_of(figures)
    picture = tell("soak", rows, figures, as_json=options.json, out=options.out)
    _draw(picture, samples)
    return int(any(row.is_met is False for row in rows))


def soak(house: House, jobs: int, limit_s: float) -> list[Sample]:
    """Keep the queue filled until ``jobs`` have ended; one sample a second.

    Raises:
        RuntimeError: a job was refused or failed.
    """
    models = _models(house)
    samples, submitted, failures_s = [house.sample(0)], 0, 0.0
    while samples[-1].ended < jobs:
        time.sleep(SAMPLE_S)
        samples.append(house.sample(submitted))
        if samples[-1].at_s > limit_s:
            jobs = submitted
        while submitted < jobs and submitted - samples[-1].ended < DEPTH:
            count = min(LIST, jobs - submitted)
            _submit(house, [_job(number, models) for number in range(submitted, submitted + count)])
            submitted += count
        if samples[-1].at_s - failures_s > KEPT_S / 4:
            failures_s = samples[-1].at_s
            _see_that_none_failed(house)
    return samples


def settled(house: House, jobs: int) -> Sample:
    """The house when everything has been kept long enough, or the patience for that is over."""
    limit_s = time.monotonic() + SETTLE_LIMIT_S
    while time.monotonic() < limit_s:
        if not house.http.get("/v1/jobs", params={"limit": 1}).raise_for_status().json()["data"]:
            break
        time.sleep(0.5)
    return house.sample(jobs)


def _see_that_none_failed(house: House) -> None:
    if failed := house.failures():
        raise RuntimeError(f"a job failed: {failed[0]['error']}")


def _models(house: House) -> dict[str, str]:
    """A model of each kind that is there."""
    listed = house.http.get("/v1/models").raise_for_status().json()["data"]
    return {str(model["hearth"]["kind"]): str(model["id"]) for model in reversed(listed)}


def _job(number: int, models: dict[str, str]) -> dict[str, Any]:
    if number % PICTURE_EVERY == 0 and "image" in models:
        prompt = f"a red circle on blue, number {number}"
        return {"kind": "image", "class": "batch", "model": models["image"], "prompt": prompt, "steps": 1}
    message = {"role": "user", "content": f"{number}: What is Hearth?"}
    common = {"kind": "chat", "class": "batch", "model": models["chat"], "seed": number}
    return {**common, "messages": [message], "max_tokens": 1 + number % 4}


def _submit(house: House, jobs: list[dict[str, Any]]) -> None:
    answer = house.http.post("/v1/jobs", json=jobs)
    if answer.status_code != httpx.codes.ACCEPTED:
        raise RuntimeError(answer.text)


def slope(samples: Sequence[Sample], name: str, beside: str | None = None) -> float:
    """Bytes per job: least squares over the samples, at an equal value of ``beside``, if given.

    Raises ValueError: the samples are all of one number of jobs.
    """
    jobs = np.array([sample.ended for sample in samples], np.float64)
    if np.ptp(jobs) == 0:
        raise ValueError("a slope needs samples at different numbers of jobs")
    others = [] if beside is None else [np.array([getattr(sample, beside) for sample in samples])]
    columns = [column - column.mean() for column in (jobs, *others)]
    values = np.array([getattr(sample, name) for sample in samples], np.float64)
    found, *_ = np.linalg.lstsq(np.stack(columns, axis=1), values - values.mean(), rcond=None)
    return float(found[0])


def figures_of(samples: Sequence[Sample], left: Sample) -> dict[str, Any]:
    """What is told. The end of the run, where the queue runs dry, would hide what Redis keeps.

    What Redis holds follows what is kept at the moment: its slope is that at an equal number of keys.
    """
    jobs = samples[-1].ended
    warm = [sample for sample in samples if WARM_UP * jobs <= sample.ended <= jobs - DEPTH]
    names = ("api", "worker", "redis")
    kept = left.redis_bytes - samples[0].redis_bytes
    return {
        "jobs": jobs,
        "api_slope_bytes_per_job": slope(warm, "api_bytes"),
        "worker_slope_bytes_per_job": slope(warm, "worker_bytes"),
        "redis_slope_bytes_per_job": slope(warm, "redis_bytes", beside="redis_keys"),
        "redis_left_bytes_per_job": kept / jobs,
        **{
            f"{name}_bytes": [getattr(warm[0], f"{name}_bytes"), getattr(left, f"{name}_bytes")]
            for name in names
        },
        "jobs_per_s": jobs / samples[-1].at_s,
        "redis_keys_max": max(sample.redis_keys for sample in samples),
        "redis_keys_before": samples[0].redis_keys,
        "redis_keys_left": left.redis_keys,
        "files_max": max(sample.files for sample in samples),
        "files_left": left.files,
        "owners_of_the_card": len({sample.owner for sample in samples}),
        "samples": [asdict(sample) for sample in samples],
    }


def rows_of(figures: dict[str, Any]) -> list[Row]:
    return [
        Row("jobs", figures["jobs"], ""),
        Row("jobs per second", figures["jobs_per_s"], ""),
        at_most("API, slope", figures["api_slope_bytes_per_job"], "B/job", 200),
        at_most("worker, slope", figures["worker_slope_bytes_per_job"], "B/job", 1000),
        Row("Redis, slope at an equal number of keys", figures["redis_slope_bytes_per_job"], "B/job"),
        at_most("Redis, left when everything is forgotten", figures["redis_left_bytes_per_job"], "B/job", 50),
        Row("API at the end", figures["api_bytes"][1] / MIB, "MiB"),
        Row("worker at the end", figures["worker_bytes"][1] / MIB, "MiB"),
        Row("Redis at the end", figures["redis_bytes"][1] / MIB, "MiB"),
        Row("keys in Redis, at most", figures["redis_keys_max"], ""),
        at_most("keys in Redis, everything forgotten", figures["redis_keys_left"], "", 200),
        Row("picture files, at most", figures["files_max"], ""),
        Row("picture files, everything forgotten", figures["files_left"], ""),
        Row("processes that owned the card", figures["owners_of_the_card"], ""),
    ]


def _draw(path: Path, samples: Sequence[Sample]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    jobs = [sample.ended for sample in samples]
    for name, label in (("api_bytes", "API"), ("worker_bytes", "worker"), ("redis_bytes", "Redis")):
        left.plot(jobs, [getattr(sample, name) / MIB for sample in samples], label=label)
    left.axvline(WARM_UP * jobs[-1], color="0.6", linestyle="--", label="warm from here")
    left.set(title="memory", xlabel="jobs ended", ylabel="MiB", ylim=(0, None))
    right.plot(jobs, [sample.redis_keys for sample in samples], label="keys in Redis")
    right.plot(jobs, [sample.files for sample in samples], label="picture files")
    right.set(title=f"what is kept, {KEPT_S} s long", xlabel="jobs ended", ylim=(0, None))
    for axes in (left, right):
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
