"""What a picture needs when the card is done with it: its file, beside the card's next picture."""

from __future__ import annotations

import threading

from tasks.claim import Claim, ending
from tasks.engines import Sketch


class Finisher:
    """Ends picture jobs in a thread, one at a time: who brings the next one waits for the one before.

    The job stays ``running`` under its lease. Celery takes its message for done, so what repairs a death in
    between is the card's next owner, which sends it again (``claim.become_owner``), or the reaper.
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
            claim.append(claim.unwanted() or sketch.finish())
    finally:
        claim.release()
    if claim.is_settled:
        sketch.discard()


finisher = Finisher()
"""That of this process."""
