"""A model off the card, and word when it is."""

from __future__ import annotations

import asyncio

from api import stock
from api.context import Context
from api.errors import Refusal, of_end
from api.follow import Following
from api.wait import whole
from tasks.board import Model
from tasks.cancel import cancel
from tasks.events import Finished

PATIENCE_S = 60.0
"""The job that does it takes its turn; what waits for longer than that is held or paused."""


async def take_off(shared: Context, owner: str, model: Model) -> bool:
    """Take ``model`` off the card. False: it is on none, and there was nothing to do.

    Raises:
        Refusal: it could not be taken off, or not in time; it stays.
    """
    if not await _is_resident(shared, model):
        return False
    job = await stock.put(shared, owner, model, "unload")
    entries = Following(shared, job.submission.id, renew=False)
    try:
        told = await asyncio.wait_for(whole(entries, lambda _: None), PATIENCE_S)
    except TimeoutError:
        await cancel(shared.redis, job.submission.id, settings=shared.settings)
        why = f"'{model.id}' could not be taken off the card within {PATIENCE_S:.0f} s, and stays"
        raise Refusal("model_busy", f"{why}: is the queue paused, or the card held?", "model") from None
    if not isinstance(told.end, Finished):
        problem = of_end(told.end)
        why = f"'{model.id}' could not be taken off the card: {problem.message}"
        raise Refusal(problem.code, why, "model")
    return True


async def _is_resident(shared: Context, model: Model) -> bool:
    cards = await shared.board.cards()
    return any(
        resident.model == model.id for card in cards if card.residents for resident in card.residents.models
    )
