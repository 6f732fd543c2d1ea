"""What a picture costs around the card: how near the whole path comes to what the card alone could do.

On the virtual card, with graphs that take as long as Stable Diffusion 1.5 with LCM does on a Raspberry Pi 5
(512 x 512, four steps) and do no arithmetic. Pictures go through a whole ``hearth up``: queue, worker, files.
Beside it the usual loop, which encodes and writes each picture before it draws the next; then how soon a
picture is called off; then a grid of many jobs, watched from submission to end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench import stack
from bench.report import Row, arguments, at_least, at_most, tell
from bench.synthetic_pictures import NOTHING, SD15_PI5, Calls, write_package
from config.groups import VirtualCardSettings
from hardware.virtual.card import VirtualCard
from models.catalog import describe
from models.diffusion.engine import PictureEngine
from models.load import loading
from tasks.board import PictureSize
from tasks.engines import Verdict
from tasks.jobs import ANONYMOUS, ImageJob, JobClass, Submission, new_job_id

MODEL, SIZE, STEPS = "sd15-lcm", 512, 4
CEILING_SHARE = 0.985
GRID_STEPS = 2
MIB = 2**20

Figures = dict[str, Any]


def main() -> int:
    """The command. Returns the exit status."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--pictures", type=int, default=24, help="pictures to draw through the whole path")
    parser.add_argument("--serial", type=int, default=6, help="pictures to draw in the usual loop")
    parser.add_argument("--cancels", type=int, default=16, help="pictures to call off at each stage")
    parser.add_argument("--grid", type=int, default=300, help="jobs of the grid; 0 leaves it out")
    options = parser.parse_args()
    figures: Figures = {"ceiling_images_per_s": 1000 / SD15_PI5.picture_ms(STEPS)}
    with serving(SD15_PI5) as server:
        figures |= through_the_queue(server, options.pictures)
        figures |= call_off(server, options.cancels)
    figures["serial_images_per_s"] = serial(options.serial)
    if options.grid:
        with serving(NOTHING) as server:
            figures["grid"] = grid(server, options.grid)
    picture = tell("image", _rows(figures), figures, as_json=options.json, out=options.out)
    draw(figures, picture)
    return 0


@contextmanager
def serving(calls: Calls) -> Iterator[stack.Stack]:
    """A whole server with the synthetic model alone, already on the card."""
    with tempfile.TemporaryDirectory(prefix="hearth-bench-models-") as folder:
        write_package(Path(folder) / MODEL, calls, SIZE)
        environment = {
            "HEARTH_MODELS_DIR": folder,
            "HEARTH_DEMO_MODELS": "false",
            "HEARTH_VIRTUAL_CARD__TIMING": "pi5" if calls is SD15_PI5 else "none",
        }
        with stack.running(environment) as server:
            _until_ended(server, _submit(server, prompt="warm up")["id"])
            yield server


def through_the_queue(server: stack.Stack, count: int) -> Figures:
    """Pictures per second from the end of the first to that of the last, all of them waiting from the start.

    No two have a prompt in common, so that each costs the card a text as well.
    """
    batch = _submit(server, grid={"prompt": [f"picture number {n}" for n in range(count)]})["batch"]
    jobs = _ended_batch(server, batch, count, patience_s=60 + count * 6)
    ended = sorted(job["ended_at"] for job in jobs)
    return {
        "pictures": count,
        "images_per_s": (count - 1) / (ended[-1] - ended[0]),
        "ended_at_s": [at - ended[0] for at in ended],
    }


def serial(count: int) -> float:
    """Pictures per second of the usual loop, with the same engine on the same card."""
    with tempfile.TemporaryDirectory(prefix="hearth-bench-serial-") as folder:
        place = Path(folder)
        model = describe(write_package(place / MODEL, SD15_PI5, SIZE))
        with VirtualCard(place / "card", VirtualCardSettings(timing="pi5")) as card:
            steps = loading(card, model, PictureSize(SIZE, SIZE), data_dir=place)
            engine = _returned(steps)
            _draw_serially(engine, 0)
            began_s = time.monotonic()
            for number in range(1, count + 1):
                _draw_serially(engine, number)
            return count / (time.monotonic() - began_s)


def _draw_serially(engine: PictureEngine, number: int, size: int = SIZE) -> None:
    submission = Submission(new_job_id(), ANONYMOUS, JobClass.IMAGE, 0)
    job = ImageJob(submission, MODEL, f"picture number {number}", number, size, size, STEPS)
    _returned(engine.draw(job, _Undisturbed())).finish()


def _returned(steps: Any) -> Any:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class _Undisturbed:
    """Signals of a job that nobody calls off."""

    def between_steps(self) -> Verdict:
        return Verdict.GO_ON

    @contextmanager
    def calling_card(self, limit_s: float) -> Iterator[None]:
        yield


def call_off(server: stack.Stack, count: int) -> Figures:
    """Seconds from a request to cancel to the job's end, at moments spread over the picture's making."""
    # Up to the end of the last step but one: from then on it is the decoder that is to be waited for.
    denoising_s = (STEPS - 2) * SD15_PI5.unet_ms / 1000
    decoding_s = SD15_PI5.decoder_ms / 1000
    moments = [(1, (number + 0.5) / count * denoising_s) for number in range(count)]
    denoising = [_called_off(server, *moment) for moment in moments]
    moments = [(STEPS, (number + 0.5) / count * decoding_s) for number in range(count)]
    decoding = [_called_off(server, *moment) for moment in moments]
    return {
        "cancel_latency_s": max(denoising),
        "cancel_latency_anywhere_s": max(*denoising, *decoding),
        "cancel_latencies_s": {"denoising": denoising, "decoding": decoding},
    }


def _called_off(server: stack.Stack, after_step: int, wait_s: float) -> float:
    job_id = _submit(server, prompt=f"a picture that nobody wants, {after_step} {wait_s}")["id"]
    with httpx.Client(base_url=server.url, timeout=10.0) as client:
        _until(lambda: (_job(client, job_id)["progress"] or {}).get("done") == after_step, 30.0)
        time.sleep(wait_s)
        began_s = time.monotonic()
        client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        _until(lambda: _job(client, job_id)["ended_at"] is not None, 30.0)
        return time.monotonic() - began_s


def grid(server: stack.Stack, count: int) -> Figures:
    """Submit ``count`` jobs in one request and watch them: every look must add up, and memory must not grow.

    Raises:
        RuntimeError: a count was wrong, a job did not succeed, or they ended out of order.
    """
    began_s = time.monotonic()
    body = {"class": "batch", "prompt": "one of many", "steps": GRID_STEPS, "grid": {"seed": [*range(count)]}}
    batch = _submit(server, **body)["batch"]
    submitted_s = time.monotonic() - began_s
    looks: list[dict[str, int]] = []
    memory: list[dict[str, float]] = []
    with httpx.Client(base_url=server.url, timeout=10.0) as client:
        while True:
            counts = client.get(f"/v1/jobs/batches/{batch}").raise_for_status().json()["counts"]
            if sum(counts.values()) != count:
                raise RuntimeError(f"{counts} do not add up to {count}")
            if looks and counts["succeeded"] < looks[-1]["succeeded"]:
                raise RuntimeError(f"{counts} after {looks[-1]}")
            looks.append(counts)
            memory.append(_memory_mib(server))
            if counts["succeeded"] + counts["failed"] + counts["cancelled"] + counts["expired"] == count:
                break
            time.sleep(0.1)
    jobs = _ended_batch(server, batch, count, patience_s=10.0)
    # Two may end in one millisecond.
    ended_at = {job["input"]["seed"]: job["ended_at"] for job in jobs}
    if [ended_at[seed] for seed in range(count)] != sorted(ended_at.values()):
        raise RuntimeError("the jobs ended out of order")
    quarter = memory[len(memory) // 4]
    return {
        "jobs": count,
        "looks": len(looks),
        "submitted_s": submitted_s,
        "seconds": time.monotonic() - began_s,
        "api_mib": {"after a quarter": quarter["api"], "at the end": memory[-1]["api"]},
        "worker_mib": {"after a quarter": quarter["npu"], "at the end": memory[-1]["npu"]},
    }


def _memory_mib(server: stack.Stack) -> dict[str, float]:
    """Resident memory of the API and of the card's owner."""
    found: dict[str, float] = {}
    for process in psutil.Process(server.pid).children(recursive=True):
        try:
            command, size = process.cmdline(), process.memory_info().rss / MIB
        except psutil.Error:
            continue
        if "api" in command:
            found["api"] = size
        elif "npu" in command and process.ppid() != server.pid:
            found["npu"] = size
    return found


def _submit(server: stack.Stack, **fields: Any) -> dict[str, Any]:
    body = {"kind": "image", "model": MODEL, "size": f"{SIZE}x{SIZE}", "steps": STEPS, **fields}
    answer = httpx.post(f"{server.url}/v1/jobs", json=body, timeout=30.0)
    if answer.is_error:
        raise RuntimeError(answer.text)
    told: dict[str, Any] = answer.json()
    return told


def _job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
    return told


def _until_ended(server: stack.Stack, job_id: str) -> None:
    with httpx.Client(base_url=server.url, timeout=10.0) as client:
        _until(lambda: _job(client, job_id)["ended_at"] is not None, 60.0)


def _until(true: Callable[[], bool], patience_s: float) -> None:
    limit_s = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > limit_s:
            raise RuntimeError(f"waited {patience_s:g} s in vain")
        time.sleep(0.005)


def _ended_batch(server: stack.Stack, batch: str, count: int, patience_s: float) -> list[dict[str, Any]]:
    """The jobs of a batch, all succeeded, newest first."""
    limit_s = time.monotonic() + patience_s
    with httpx.Client(base_url=server.url, timeout=30.0) as client:
        while client.get(f"/v1/jobs/batches/{batch}").raise_for_status().json()["state"] != "ended":
            if time.monotonic() > limit_s:
                raise RuntimeError(f"{count} pictures did not end within {patience_s:g} s")
            time.sleep(0.5)
        jobs: list[dict[str, Any]] = []
        query: dict[str, str] = {"batch": batch, "limit": "100"}
        while True:
            page = client.get("/v1/jobs", params=query).raise_for_status().json()
            jobs.extend(page["data"])
            if not page.get("has_more"):
                break
            query["after"] = jobs[-1]["id"]
    if len(jobs) != count or any(job["state"] != "succeeded" for job in jobs):
        raise RuntimeError(f"not all of {count} succeeded: {[job['state'] for job in jobs]}")
    return jobs


def _rows(figures: Mapping[str, Any]) -> list[Row]:
    ceiling = figures["ceiling_images_per_s"]
    rows = [
        Row("what the card alone could do", ceiling, "pictures/s"),
        at_least("through the whole path", figures["images_per_s"], "pictures/s", CEILING_SHARE * ceiling),
        Row("its share of the card's own", figures["images_per_s"] / ceiling * 100, "%"),
        Row("the usual loop", figures["serial_images_per_s"], "pictures/s"),
        at_most("called off while it is drawn, at worst", figures["cancel_latency_s"], "s", 0.6),
        at_most("called off at any moment, at worst", figures["cancel_latency_anywhere_s"], "s", 1.1),
    ]
    watched = figures.get("grid")
    if watched:
        api, worker = watched["api_mib"], watched["worker_mib"]
        rows += [
            Row("grid: jobs, all ended and in order", watched["jobs"], ""),
            Row("grid: looks, all of which added up", watched["looks"], ""),
            Row("grid: accepted within", watched["submitted_s"], "s"),
            Row("grid: API memory at the end", api["at the end"], f"MiB, {_grown(api):+.1f}"),
            Row("grid: worker memory at the end", worker["at the end"], f"MiB, {_grown(worker):+.1f}"),
        ]
    return rows


def _grown(memory: Mapping[str, float]) -> float:
    """MiB since a quarter of the grid was done, when everything had been used once."""
    return memory["at the end"] - memory["after a quarter"]


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Pictures per second beside the ceiling, and every latency of a cancel."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    rates = {
        "usual loop": figures["serial_images_per_s"],
        "Hearth,\nqueue to file": figures["images_per_s"],
    }
    bars = left.bar(list(rates), list(rates.values()), color=["C7", "C0"])
    left.bar_label(bars, fmt="{:.4f}", label_type="center", color="white")
    left.axhline(figures["ceiling_images_per_s"], color="C3", linestyle="--", label="the card alone")
    left.set(title="pictures per second", ylim=(0, figures["ceiling_images_per_s"] * 1.25))
    left.legend(loc="upper left")
    for index, (stage, values) in enumerate(figures["cancel_latencies_s"].items()):
        right.plot([index] * len(values), values, "o", alpha=0.6, label=stage)
    for bound in (0.6, 1.1):
        right.axhline(bound, color="0.6", linestyle="--")
    right.set(title="seconds from cancel to the end of the job", ylim=(0, 1.3), xlim=(-0.5, 1.5))
    right.set_xticks([0, 1], list(figures["cancel_latencies_s"]))
    figure.suptitle("512 x 512 in four steps, timed as on a Raspberry Pi 5")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
