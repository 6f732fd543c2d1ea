"""The text that pictures carry about how they were made, as AUTOMATIC1111's web UI writes and reads it.

    a red circle
    Negative prompt: blurry
    Steps: 4, Sampler: LCM, CFG scale: 1, Seed: 42, Size: 512x512, Model: demo

Source: AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py and modules/images.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

KEYWORD = "parameters"
"""The keyword of the text chunk in a PNG."""

_NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'(?<![\w \-/])[ \-/]*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""What the web UI's pattern finds; beginning only where a run of words does keeps the time linear."""
_SIZE = re.compile(r"^(\d+)x(\d+)$")
_FEWEST_FIELDS = 3
"""A last line with fewer fields is taken for a part of the prompt."""


@dataclass(frozen=True, slots=True)
class Infotext:
    """Prompts and the named values of the last line, as text, in their order.

    Fewer than three values are not recognised by those who read them.
    """

    prompt: str
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The text for the file. What UTF-8 cannot hold (lone surrogates) becomes a question mark."""
        lines = [self.prompt] if self.prompt else []
        if self.negative_prompt:
            lines.append(f"{_NEGATIVE} {self.negative_prompt}")
        if self.fields:
            lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in self.fields.items()))
        return "\n".join(lines).encode("utf-8", "replace").decode()


def parse(text: str) -> Infotext:
    """What ``text`` tells, as the web UI would read it; any text is a prompt at least.

    A value like ``512x768`` of the field ``Size`` becomes ``Size-1`` (width) and ``Size-2`` (height).
    Whitespace around lines is not kept, and a line of the prompt that begins with ``Negative prompt:`` begins
    the negative one: the format has no way to say otherwise.
    """
    *lines, last = text.strip().split("\n")
    fields = _FIELD.findall(last)
    if len(fields) < _FEWEST_FIELDS:
        lines.append(last)
        fields = []
    prompts: dict[bool, list[str]] = {False: [], True: []}
    is_negative = False
    for line in map(str.strip, lines):
        is_negative = is_negative or line.startswith(_NEGATIVE)
        prompts[is_negative].append(line.removeprefix(_NEGATIVE).strip() if is_negative else line)
    named: dict[str, str] = {}
    for name, value in fields:
        named.update(_named(name, _unquoted(value)))
    prompt, negative = ("\n".join(prompts[side]).strip() for side in (False, True))
    return Infotext(prompt, negative, named)


def _named(name: str, value: str) -> dict[str, str]:
    size = _SIZE.match(value)
    return {f"{name}-1": size[1], f"{name}-2": size[2]} if size else {name: value}


def _quoted(value: str) -> str:
    """``value`` as it may stand between commas."""
    is_plain = value == value.strip() and not value.startswith('"') and not set(value) & set(",\n:")
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value.rstrip()
    try:
        return str(json.loads(value))
    except ValueError:
        return value
