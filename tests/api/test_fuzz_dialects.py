"""Bodies made from valid ones of every dialect break nothing. For more of them: ``./hearth bench fuzz``."""

from __future__ import annotations

import httpx

from bench.fuzz import fuzz, offered
from bench.mutations import Fuzzer, seeds
from tests.api.conftest import Served
from tests.api.support import StandIn

BODIES = 400


async def test_no_body_breaks_any_dialect(served: Served, bulk_worker: StandIn) -> None:
    valid = offered(served.url)
    assert {"/v1/chat/completions", "/api/chat", "/sdapi/v1/txt2img", "/v1/jobs"} <= valid.keys()
    verdict = await fuzz(served.url, valid, BODIES, seed=11)
    assert "\n".join(verdict.faults) == ""
    # Some are still good enough to be answered: those go through all of the house.
    assert sum(count for status, count in verdict.statuses.items() if status < 300) > BODIES / 20
    assert verdict.by_path.keys() == valid.keys()


async def test_unchanged_they_are_taken(served: Served, bulk_worker: StandIn) -> None:
    """Or what is made from them would be refused for what they are, not for what was done to them."""
    async with httpx.AsyncClient(base_url=served.url, timeout=30) as client:
        for path, bodies in offered(served.url).items():
            for body in bodies:
                answer = await client.post(path, json=body)
                # Neither the file that is named is here, nor a model that makes embeddings.
                wanted = 404 if path in ("/v1/batches", "/v1/embeddings", "/api/embed") else 200
                assert answer.status_code in (wanted, 202), f"{path} {answer.text}"


def test_the_same_seed_makes_the_same_bodies() -> None:
    first, second, other = (Fuzzer(seeds("a", "b", "c"), seed) for seed in (1, 1, 2))
    made = [first.next() for _ in range(60)]
    assert made == [second.next() for _ in range(60)]
    assert made != [other.next() for _ in range(60)]
