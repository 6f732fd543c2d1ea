"""Calls into the card while a picture is drawn: the job's signals are asked before each of them."""

from __future__ import annotations

from hardware.card import Graph, Tensors
from tasks.engines import Signals, Verdict

CALL_LIMIT_S = 60.0
"""A graph of a picture model takes 0.4 to 0.9 s at 512x512 and a few seconds at the largest size; one that
has not answered after this long never will."""


def call(graph: Graph, feeds: Tensors, signals: Signals) -> Tensors | Verdict:
    """Run ``graph`` once, unless a verdict forbids it. Raises HardwareError, Shutdown."""
    verdict = signals.between_steps()
    if verdict is not Verdict.GO_ON:
        return verdict
    with signals.calling_card(CALL_LIMIT_S):
        return graph.run(feeds, timeout_s=CALL_LIMIT_S)
