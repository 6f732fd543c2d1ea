"""How findings look: to people on a terminal, to programs as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from hardware.doctor.finding import Finding, Status
from worker.doctor.examine import Group, worst

_SIGNS = {Status.PASS: "pass", Status.WARN: "WARN", Status.FAIL: "FAIL"}
_COLOURS = {Status.PASS: "32", Status.WARN: "33;1", Status.FAIL: "31;1"}
_SUBJECT, _INDENT = 18, 28
"""Columns: a finding's subject, and where what is told of it begins."""


class Page:
    """Lines for a width of ``columns``; ``colour`` where a terminal understands it."""

    def __init__(self, columns: int, *, colour: bool) -> None:
        self._columns = max(60, min(columns, 120))
        self._colour = colour

    def group(self, group: Group) -> str:
        lines = ["", self._ink("1", group.name)]
        for finding in group.findings:
            lines += self._finding(finding)
        if group.ladder:
            lines += [
                "",
                self._ink(
                    "1", "  A card that does not answer. Stop Hearth, then, one by one, a minute apart:"
                ),
            ]
            for number, (what, command) in enumerate(group.ladder, 1):
                lines += [f"  {number}. {what}", self._ink("36", f"     {command}")]
        return "\n".join(lines) + "\n"

    def summary(self, groups: Sequence[Group]) -> str:
        counts = {status: _count(groups, status) for status in (Status.FAIL, Status.WARN)}
        told = [
            f"{count} to mend" if status is Status.FAIL else f"{count} to know of"
            for status, count in counts.items()
            if count
        ]
        words = {
            Status.PASS: "All is well.",
            Status.WARN: "It will serve: ",
            Status.FAIL: "It will not serve: ",
        }
        status = worst(list(groups))
        return f"\n{self._ink(_COLOURS[status], words[status] + ', '.join(told))}{'' if not told else '.'}\n"

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        """Aligned, fit to be pasted into a report."""
        shown = [tuple(columns), *(tuple(row) for row in rows)]
        widths = [max(len(row[at]) for row in shown) for at in range(len(columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in shown
        ]
        return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:], ""])

    def _finding(self, finding: Finding) -> list[str]:
        sign = self._ink(_COLOURS[finding.status], _SIGNS[finding.status])
        told = self._wrapped(finding.told)
        lines = [
            f"  {sign}  {finding.subject:<{_SUBJECT}}  {told[0]}",
            *(" " * _INDENT + line for line in told[1:]),
        ]
        if finding.fix:
            # Never wrapped: it is there to be copied.
            lines.append(" " * (_INDENT - 2) + self._ink("36", f"→ {finding.fix}"))
        return lines

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(
            text, self._columns - _INDENT, break_long_words=False, break_on_hyphens=False
        ) or [""]

    def _ink(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def as_data(groups: Sequence[Group]) -> dict[str, Any]:
    """JSON-able: the verdict, and every finding under its group."""
    findings = [{"group": group.name, **asdict(finding)} for group in groups for finding in group.findings]
    return {"status": worst(list(groups)), "findings": findings}


def _count(groups: Sequence[Group], status: Status) -> int:
    return sum(finding.status is status for group in groups for finding in group.findings)
