"""Which ways a model uses on a card: what the settings name, else what this card was seen to do right."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from config.settings import ModelSettings
from hardware.card import KvWrite, Prefill
from models.llm.network import Network
from models.llm.package import LlmPackage
from models.llm.probe import Findings, probe

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
    network.drive(
        found.kv_write if options.kv_write == "auto" else KvWrite(options.kv_write),
        found.prefill if options.prefill == "auto" else Prefill(options.prefill),
    )


def _remembered_or_tried(network: Network, package: LlmPackage, memory: Path | None) -> Findings:
    key = _key(package, network.card.info.firmware)
    known = _read(memory) if memory else {}
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
        _write(memory, {**known, key: entry})
    return found


def _key(package: LlmPackage, firmware: str) -> str:
    """Changes with any graph file and with the firmware."""
    digest = hashlib.sha256(firmware.encode())
    for path in (*package.layers, package.post):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read(memory: Path) -> dict[str, Any]:
    """What is remembered; a file that cannot be read is as good as none: the probe is made again."""
    try:
        known = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(memory: Path, known: dict[str, Any]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    fresh = memory.with_suffix(".new")
    fresh.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    fresh.replace(memory)
