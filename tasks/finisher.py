"""What a picture needs when the card is done with it: its file, beside the card's next picture."""

from __future__ import annotations

import threading
import time

from tasks.claim import Claim, activity, ending
from tasks.engines import Sketch
from tasks.signals import stopping

CARD_FIRST_S = 0.3
"""So long a picture's file waits at most for the card to be at its next job."""
LONG_CALL_MS = 30
"""A call that has lasted so long is not the text encoder's, which is over at once."""
LOOK_S = 0.005


class Finisher:
    """Ends picture jobs in a thread, one at a time: who brings the next one waits for the one before.

    The job stays ``running`` under its lease. Celery takes its message for done, so what repairs a death in
    between is the card's next owner, which sends it again (``ownership.become_owner``), or the reaper.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def take(self, claim: Claim, sketch: Sketch) -> None:
        """Take over a claimed job whose picture is drawn. Returns when the one before has ended."""
        self.join()
        claim.hand_over()
        job_id = claim.job.submission.id
        self._thread = threading.Thread(
            target=_finish, args=(claim, sketch), name=f"finish-{job_id[-6:]}", daemon=True
        )
        self._thread.start()

    def join(self) -> None:
        """Wait until nothing is left to be finished."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _finish(claim: Claim, sketch: Sketch) -> None:
    try:
        with ending(claim):
            sketch.keep()
            _let_the_card_go_first(claim)
            claim.append(claim.unwanted() or sketch.finish())
    finally:
        claim.release()
    if claim.is_settled:
        sketch.discard()


def _let_the_card_go_first(claim: Claim) -> None:
    """Wait until the card is at work again, if there is work for it.

    Until then its next job needs this process and a processor; for seconds afterwards it needs neither. On
    two processors with ten processes to run, the card rested 52 ms a picture instead of 116.
    """
    if not claim.others_wait():
        return
    give_up_at = time.monotonic() + CARD_FIRST_S
    while not stopping.is_set() and time.monotonic() < give_up_at:
        now = activity()
        since_ms = None if now is None else now.call_since_ms
        if since_ms is not None and time.time() * 1000 - since_ms > LONG_CALL_MS:
            return
        time.sleep(LOOK_S)


finisher = Finisher()
"""That of this process."""
