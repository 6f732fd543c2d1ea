"""Server-sent events, comments included: Hearth tells the place in the queue in comment lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

TERMINAL = frozenset({"finished", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Comment:
    """A line beginning with a colon; ``text`` is what follows."""

    text: str


@dataclass(frozen=True, slots=True)
class Message:
    event: str
    data: str
    id: str | None = None

    @property
    def is_terminal(self) -> bool:
        return self.event in TERMINAL

    def json(self) -> Any:
        return json.loads(self.data)


def messages(lines: Iterable[str]) -> Iterator[Message | Comment]:
    """Parse lines without their ends, as in the HTML standard, 9.2.6. A message cut short is dropped."""
    event, data, last_id = "", list[str](), None
    for line in lines:
        if not line:
            if data:
                yield Message(event or "message", "\n".join(data), last_id)
            event, data = "", []
            continue
        if line.startswith(":"):
            yield Comment(line[1:].strip())
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value
