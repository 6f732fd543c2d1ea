"""The process table: what ``hearth up`` runs, and what systemd and compose run one by one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from config.settings import Settings


@dataclass(frozen=True, slots=True)
class Process:
    """One process of Hearth: how it is started and how it is let go.

    ``on_orphaned`` is sent by the kernel when the supervisor dies without a word. ``owns_card``: it is never
    killed while it may be inside a call into a real card.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    on_orphaned: signal.Signals = signal.SIGKILL
    owns_card: bool = False
    patience_s: float = 10.0
    """How long it may take to stop before it is killed."""
    inherit_fds: tuple[int, ...] = ()


def module_commands(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The arguments after ``python -m``, by process name, in the order of starting."""
    return {
        "api": ("api",),
        "npu": ("worker", "npu"),
        "monitor": ("worker", "monitor"),
        "flower": (
            *("celery", "-A", "tasks.app", "flower"),
            *("--address=127.0.0.1", f"--port={settings.flower_port}"),
        ),
    }


def process_table(settings: Settings, flower_auth: str) -> tuple[Process, ...]:
    """Every process but Redis. ``flower_auth`` is ``user:password``; it travels by environment only."""
    commands = {
        name: (sys.executable, "-m", *arguments) for name, arguments in module_commands(settings).items()
    }
    table = [
        Process("api", commands["api"]),
        # An orphaned worker drains like a stopped one: it alone knows when the card can be left.
        Process("npu", commands["npu"], on_orphaned=signal.SIGTERM, owns_card=True, patience_s=20.0),
        Process("monitor", commands["monitor"]),
    ]
    if settings.flower:
        # Flower's REST API stays closed without this; FLOWER_UNAUTHENTICATED_API must never be set.
        table.append(
            Process("flower", commands["flower"], {"FLOWER_BASIC_AUTH": flower_auth}, patience_s=5.0)
        )
    return tuple(table)
