"""The ids of a response and its items: all of them lead back to the job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tasks.jobs import JobId

_RESPONSE = re.compile(r"resp_([0-9a-f]{40})")
_ITEM = re.compile(r"(?:msg|rs|fc|fco)_([0-9a-f]{40})_([io])\d{1,6}")

Prefix = Literal["msg", "rs", "fc", "fco"]
Side = Literal["i", "o"]
"""An item of the input, or of the output."""


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """Where an item of ours stands."""

    job_id: JobId
    side: Side


def response_id(job_id: JobId) -> str:
    return "resp_" + job_id.removeprefix("job_")


def job_of(response: str) -> JobId | None:
    """The job behind a response's id; None when it is no such id."""
    found = _RESPONSE.fullmatch(response)
    return None if found is None else JobId(f"job_{found[1]}")


def item_id(prefix: Prefix, job_id: JobId, side: Side, number: int) -> str:
    """``number`` counts the items of one prefix and side."""
    return f"{prefix}_{job_id.removeprefix('job_')}_{side}{number}"


def place_of(item: str) -> ItemPlace | None:
    """Where the item with this id stands; None when the id is none of ours."""
    found = _ITEM.fullmatch(item)
    if found is None:
        return None
    return ItemPlace(JobId(f"job_{found[1]}"), "i" if found[2] == "i" else "o")
