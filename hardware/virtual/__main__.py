"""``python -m hardware.virtual``: look at the virtual card, and make it suffer. Data goes to stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from config.settings import Settings, SettingsError, settings
from hardware.card import CardInfo
from hardware.choose import card_ids
from hardware.health import Sensors, read_health
from hardware.virtual.state import HOT_C, SLOW_FACTOR, CardState, Fault

MIB = 1 << 20
FAULTS = tuple(fault.name.lower() for fault in Fault)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        configuration = settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    (info,) = card_ids(configuration)
    if not info.is_virtual and options.action is not _show:
        sys.stderr.write(
            f"only a virtual card can be told how it is; {info.id} is real (HEARTH_CARD=virtual)\n"
        )
        return 2
    try:
        options.action(configuration, options)
        facts = describe(configuration) if info.is_virtual else describe_real(configuration, info)
    except OSError as error:
        sys.stderr.write(f"cannot use {configuration.card_state_dir}: {error.strerror or error}\n")
        return 1
    sys.stdout.write(json.dumps(facts, indent=2) + "\n" if options.json else _text(facts))
    return 0


def describe(configuration: Settings) -> dict[str, Any]:
    """Everything there is to see, as JSON-able facts."""
    (info,) = card_ids(configuration)
    reading = read_health(configuration, info)
    state = CardState.open(configuration.card_state_dir, info.index)
    try:
        orders, report, is_owned = state.orders(), state.report(), state.is_owned()
        ambient_c = state.ambient_c(configuration.virtual_card.ambient_c)
    finally:
        state.close()
    return {
        **asdict(info),
        **asdict(reading),
        "ambient_c": ambient_c,
        "fault": orders.fault.name.lower(),
        "timing": configuration.virtual_card.timing,
        "owner_pid": report.pid if report and is_owned else None,
        "is_lost": bool(report and is_owned and report.is_lost),
        "counters": asdict(report.counters) if report else None,
    }


def describe_real(configuration: Settings, info: CardInfo) -> dict[str, Any]:
    """What a real card's own tool tells; why it tells nothing goes to stderr by the log."""
    return {**asdict(info), **asdict(Sensors().read(configuration, info))}


def _show(configuration: Settings, options: argparse.Namespace) -> None:
    """Showing is what every command ends with."""


def _set_fault(configuration: Settings, options: argparse.Namespace) -> None:
    changes: dict[str, Any] = {"fault": Fault[options.fault.upper()]}
    if options.fault == "slow":
        changes["slow_factor"] = options.factor
    if options.fault == "hot":
        changes["hot_c"] = options.temperature
    _with_state(configuration, lambda state: state.order(**changes))


def _set(configuration: Settings, options: argparse.Namespace) -> None:
    if options.ambient is not None:
        ambient_c = None if options.ambient == _CONFIGURED else options.ambient
        _with_state(configuration, lambda state: state.order(ambient_c=ambient_c))
    if options.temperature is not None:
        _with_state(configuration, lambda state: state.set_temperature(options.temperature))


def _with_state(configuration: Settings, action: Callable[[CardState], object]) -> None:
    state = CardState.open(configuration.card_state_dir)
    try:
        action(state)
    finally:
        state.close()


_CONFIGURED = "configured"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hearth card", description="Look at the card, or have the virtual one suffer a fault."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(action=_show)
    # Given once more so that it may stand on either side of the command; SUPPRESS keeps the first.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object"
    )
    commands = parser.add_subparsers(metavar="command")

    show = commands.add_parser("show", parents=[common], help="what the card shows now (the default)")
    show.set_defaults(action=_show)

    fault = commands.add_parser("set-fault", parents=[common], help="from now on suffer a fault, or none")
    fault.add_argument("fault", choices=FAULTS)
    fault.add_argument(
        "--temperature",
        type=_between(-20, 150),
        default=HOT_C,
        metavar="C",
        help=f"with hot (default {HOT_C:g})",
    )
    fault.add_argument(
        "--factor",
        type=_between(1, 1000),
        default=SLOW_FACTOR,
        metavar="X",
        help=f"with slow: how many times longer an execute takes (default {SLOW_FACTOR:g})",
    )
    fault.set_defaults(action=_set_fault)

    change = commands.add_parser("set", parents=[common], help="change the room's or the card's temperature")
    change.add_argument(
        "--ambient",
        type=_ambient,
        metavar="C",
        help=f"temperature of the room, or '{_CONFIGURED}' for the setting's",
    )
    change.add_argument(
        "--temperature",
        type=_between(-20, 150),
        metavar="C",
        help="of the card; from there it goes on by itself",
    )
    change.set_defaults(action=_set)
    return parser


def _between(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return number


def _ambient(text: str) -> float | str:
    return _CONFIGURED if text == _CONFIGURED else _between(-20, 60)(text)


def _text(facts: dict[str, Any]) -> str:
    lines = _virtual_lines(facts) if facts["is_virtual"] else _lines(facts)
    return "".join(f"{name:12} {value}\n" for name, value in lines)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What every card has to tell."""
    memory = facts["memory"]
    npu, cpu = (_or_missing(facts[key], "{:.0f} %") for key in ("npu_percent", "cpu_percent"))
    used = _or_missing(memory and (memory["total_bytes"] - memory["free_bytes"]) / MIB, "{:.1f} MiB")
    more = facts["firmware"] or f"at {facts['bus_id']}"
    return [
        ("card", f"{facts['id']} ({facts['name']}, {more})"),
        ("temperature", _or_missing(facts["temperature_c"], "{:.1f} °C")),
        ("npu, cpu", f"{npu}, {cpu}"),
        (
            "memory",
            f"{used} of {(memory['total_bytes'] if memory else facts['memory_bytes']) / MIB:.0f} MiB used",
        ),
    ]


def _virtual_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    card, (_, warmth), *rest = _lines(facts)
    lines = [
        card,
        ("owner", f"process {facts['owner_pid']}" if facts["owner_pid"] else "nobody"),
        ("fault", facts["fault"] + (", the card is lost to its owner" if facts["is_lost"] else "")),
        ("temperature", f"{warmth} in a room of {facts['ambient_c']:g} °C"),
        *rest,
    ]
    if counters := facts["counters"]:
        lines += [
            (kind, f"{counters[f'{key}_bytes']:,} bytes in {counters[f'{key}_calls']:,} calls")
            for kind, key in (("up", "h2d"), ("down", "d2h"), ("on card", "d2d"))
        ]
        lines.append(("executes", f"{counters['executes']:,} in {counters['busy_s']:.3f} s"))
    return lines


def _or_missing(value: float | None, form: str) -> str:
    return "--" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main())
