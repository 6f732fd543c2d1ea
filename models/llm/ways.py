"""Which ways a model uses on a card: what the settings name, else what this card was seen to do right."""

from __future__ import annotations

import logging
from pathlib import Path

from config.groups import ModelSettings
from hardware.card import KvWrite, Prefill, Streams
from models.llm.network import Network
from models.llm.package import LlmPackage
from models.llm.probe import Findings, probe, stream_problem
from models.remembered import fingerprint, recall, remember

log = logging.getLogger("hearth.models")


def choose_ways(network: Network, package: LlmPackage, options: ModelSettings, memory: Path | None) -> None:
    """Let ``network`` write rows and read prompts as fast as is known to be right.

    ``auto`` means what the virtual card says of itself. On a real card it means a probe, once for each
    package and firmware: ``memory`` is the file that remembers; None remembers nothing.

    Raises:
        CardLost, CardTimeout: the card did not survive the probe.
    """
    traits = network.card.traits
    found = Findings(traits.kv_write, traits.prefill)
    if "auto" in (options.kv_write, options.prefill) and not network.card.info.is_virtual:
        found = _remembered_or_tried(network, package, memory)
    _prove_stream(network)
    network.drive(
        found.kv_write if options.kv_write == "auto" else KvWrite(options.kv_write),
        found.prefill if options.prefill == "auto" else Prefill(options.prefill),
    )


def _prove_stream(network: Network) -> None:
    """A stream that was asked for is used only where a token comes out the same. Tried at every load."""
    card = network.card
    if not card.traits.stream_execution or not isinstance(card, Streams):
        return
    problem = stream_problem(network, card)
    if problem:
        card.stream(False)
        log.warning("steps run one by one: over a stream, %s", problem)


def _remembered_or_tried(network: Network, package: LlmPackage, memory: Path | None) -> Findings:
    key = fingerprint((*package.layers, package.post), network.card.info.firmware)
    known = recall(memory) if memory else {}
    try:
        entry = known[key]
        return Findings(KvWrite(entry["kv_write"]), Prefill(entry["prefill"]), tuple(entry["problems"]))
    except (KeyError, TypeError, ValueError):
        found = probe(network)
    for problem in found.problems:
        log.warning("%s: the slower, safe way is used: %s", package.post.parent.name, problem)
    log.info("probed: K/V rows by %s, prompts by %s", found.kv_write, found.prefill)
    if memory:
        entry = {"kv_write": found.kv_write, "prefill": found.prefill, "problems": list(found.problems)}
        remember(memory, key, entry)
    return found
