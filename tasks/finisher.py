"""What a picture needs when the card is done with it: its file, beside the card's next picture."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from tasks.claim import Claim, ending
from tasks.engines import Sketch

NICENESS = 10
"""Linux gives priorities to threads, not to whole processes."""


class Finisher:
    """Ends picture jobs in a thread, one at a time: who brings the next one waits for the one before.

    The job stays ``running`` under its lease. Celery takes its message for done, so what repairs a death in
    between is the card's next owner, which sends it again (``claim.become_owner``), or the reaper.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def take(self, claim: Claim, sketch: Sketch) -> None:
        """Take over a claimed job whose picture is drawn. Returns once its pixels are put aside."""
        sketch.keep()
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
    # The card waits for this process's other threads, and has seconds to do before it waits for this one.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    try:
        with ending(claim):
            claim.append(claim.unwanted() or sketch.finish())
    finally:
        claim.release()
    if claim.is_settled:
        sketch.discard()


finisher = Finisher()
"""That of this process."""
