"""What the soak makes of its samples; the run itself takes minutes and is no test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import soak
from bench.soak import Sample, figures_of, rows_of, slope

START = Sample(0.0, 0, 70_000_000, 200_000_000, 2_000_000, 30, 0, owner=7)


def run(per_job: int) -> list[Sample]:
    """Samples of a run whose API keeps so many bytes of each job, after a jump at the start."""
    return [
        replace(START, at_s=at, ended=at * 100, api_bytes=80_000_000 + at * 100 * per_job, redis_keys=30 + at)
        for at in range(1, 101)
    ]


@pytest.mark.parametrize("per_job", [0, 100, -5])
def test_a_slope_is_what_each_job_leaves_behind(per_job: int) -> None:
    assert slope(run(per_job), "api_bytes") == pytest.approx(per_job)


def test_redis_is_seen_through_the_tide_of_what_is_kept() -> None:
    tide = [
        replace(
            sample, redis_keys=(keys := 500 + 400 * (at % 7)), redis_bytes=keys * 1000 + sample.ended * 20
        )
        for at, sample in enumerate(run(0))
    ]
    assert slope(tide, "redis_bytes", beside="redis_keys") == pytest.approx(20)


def test_one_place_has_no_slope() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        slope([START, START], "api_bytes")


def test_a_leak_misses_its_bound_and_the_jump_of_the_start_does_not_count() -> None:
    for per_job, is_met in ((0, True), (1000, False)):
        figures = figures_of([START, *run(per_job)], replace(START, ended=10_000))
        assert figures["jobs"] == 10_000
        assert figures["api_slope_bytes_per_job"] == pytest.approx(per_job)
        (row,) = [row for row in rows_of(figures) if row.name == "API, slope"]
        assert row.is_met is is_met
    assert figures["redis_keys_max"] == 130
    assert {"worker_slope_bytes_per_job", "redis_slope_bytes_per_job"} < set(figures)


def test_jobs_are_short_and_some_are_pictures_where_there_is_a_model() -> None:
    jobs = [soak._job(number, {"chat": "c", "image": "i"}) for number in range(100)]
    assert sum(job["kind"] == "image" for job in jobs) == 2
    assert {job["max_tokens"] for job in jobs if job["kind"] == "chat"} == {1, 2, 3, 4}
    assert {soak._job(0, {"chat": "c"})["kind"]} == {"chat"}
