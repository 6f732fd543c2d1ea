"""From a batch's file to its jobs: every line checked as its endpoint does, all of them or none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import islice

from redis.exceptions import RedisError

from api.bulk.lines import Line, Reader, TooLong, read_file
from api.context import Context
from api.errors import outer
from api.openai.endpoints import ENDPOINTS, Asked
from api.request_id import problem_of
from api.terms import Terms
from tasks.bulks import Bulk, LineFault
from tasks.documents import DocumentStore
from tasks.errors import NotReady
from tasks.jobs import Job, JobClass

MOST_FAULTS = 100
"""So many lines at fault are told; the rest of the file is not looked at then."""
_AT_ONCE = 50
"""Lines read from the disk in one go."""


@dataclass(slots=True)
class Read:
    """What a file holds: the jobs of its lines, or what is wrong with them."""

    jobs: list[Job] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    faults: list[LineFault] = field(default_factory=list)

    @property
    def model(self) -> str | None:
        """The model of all jobs; None where they have several."""
        models = {job.model for job in self.jobs}
        return models.pop() if len(models) == 1 else None


async def read(shared: Context, bulk: Bulk) -> Read:
    """Look at every line of a bulk's file. Other requests are served between two lines.

    Raises:
        NotReady: the models are not known yet, or the queue does not answer.
    """
    found = Read()
    reader = Reader(bulk.order.endpoint)
    most = shared.settings.limits.batch_lines
    try:
        async for line in lines(shared, bulk, _most_bytes(shared)):
            if isinstance(line, TooLong):
                what = f"the line has more than {_most_bytes(shared)} bytes"
                found.faults.append(LineFault("request_too_large", what, None, line.number))
            elif len(found.sizes) >= most:
                what = f"the file has more lines than the {most} that one batch may have"
                found.faults.append(LineFault("too_many_requests", what))
                break
            else:
                await _take(shared, bulk, reader.read(*line), found)
            if len(found.faults) >= MOST_FAULTS:
                break
    except FileNotFoundError:
        found.faults.append(LineFault("file_not_found", "the input file is no longer there"))
    if not found.sizes and not found.faults:
        found.faults.append(LineFault("empty_file", "the file holds no request"))
    return found


async def lines(shared: Context, bulk: Bulk, most_bytes: int) -> AsyncIterator[tuple[int, bytes] | TooLong]:
    """The lines of a bulk's file. Raises FileNotFoundError, and OSError for what else the disk may say."""
    path = DocumentStore(shared.settings.data_dir).path(bulk.input_id)
    raw = read_file(path, most_bytes)
    while some := await asyncio.to_thread(lambda: list(islice(raw, _AT_ONCE))):
        for line in some:
            yield line


def _most_bytes(shared: Context) -> int:
    return shared.settings.limits.picture_body_bytes


async def _take(shared: Context, bulk: Bulk, line: Line | LineFault, found: Read) -> None:
    # Whoever waits for an answer of a few milliseconds gets it between two lines.
    await asyncio.sleep(0)
    if isinstance(line, LineFault):
        found.faults.append(line)
        found.sizes.append(0)
        return
    terms = Terms(
        bulk.owner,
        JobClass.BATCH,
        deadline_s=max(bulk.expires_at_ms / 1000 - time.time(), 1e-3),
        batch=bulk.id,
        custom_id=line.custom_id,
    )
    try:
        asked = Asked(line.body, terms, await shared.board.catalog(), shared)
        jobs = await ENDPOINTS[bulk.order.endpoint].read(asked)
    except (NotReady, RedisError, OSError):
        raise
    except Exception as error:  # what nobody foresaw, too, is one line's fault, and no reason to try for ever
        problem = problem_of(error, bulk.id)
        where = None if problem.param is None else outer("body", problem.param)
        found.faults.append(LineFault(problem.code, problem.message, where, line.number))
        jobs = []
    found.sizes.append(len(jobs))
    if not found.faults:
        found.jobs += jobs
