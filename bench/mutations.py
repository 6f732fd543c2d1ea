"""Bodies that nobody should send: valid ones of every dialect, and what can be made of them.

A mutation changes a place in the JSON (its type, its size, its depth, its characters) or the bytes of it
(torn, in another encoding, with a name twice). Everything comes from one random generator.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_TURN = {"role": "user", "content": "say x"}
_TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
}
_CALL = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def _png() -> str:
    """A grey picture of one pixel, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = chunk(b"IHDR", bytes((0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0)))
    data = chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + header + data).decode()


def seeds(chat: str, image: str, encoder: str) -> dict[str, list[dict[str, Any]]]:
    """Valid bodies by path, for models that chat, draw and encode. Small: those taken are answered."""
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "say x"}]},
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "call_0", "content": "say y"},
    ]
    talk: dict[str, Any] = {"model": chat, "messages": [_TURN], "max_tokens": 2}
    rich = {
        **talk,
        "messages": turns,
        "tools": [_TOOL],
        "tool_choice": "auto",
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["END"],
        "seed": 1,
        "temperature": 0.5,
        "top_p": 0.9,
        "logit_bias": {"5": 1.5},
        "metadata": {"a": "b"},
        "logprobs": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA, "strict": True}}
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    ollama = {
        "model": chat,
        "messages": [
            _TURN,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "1"},
        ],
        "options": {"num_predict": 2, "num_ctx": 8192, "temperature": 0.1, "stop": ["x"], "seed": 3},
        "keep_alive": -1,
        "stream": False,
        "think": False,
        "tools": [_TOOL],
    }
    draw = {"model": image, "prompt": "a red circle", "n": 1, "seed": 3, "steps": 1}
    web = {"prompt": "a circle", "steps": 1, "seed": 5, "batch_size": 1, "n_iter": 1, "cfg_scale": 1.5}
    web |= {"sampler_name": "LCM", "override_settings": {}, "alwayson_scripts": {}, "send_images": True}
    picture = _png()
    native = {"kind": "chat", **talk, "class": "batch", "deadline_s": 60.0}
    said = {"model": chat, "input": "say x", "max_output_tokens": 2, "instructions": "Be short."}
    heard = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "say x"}]}]
    return {
        "/v1/chat/completions": [talk, rich, {**talk, "response_format": form}],
        "/v1/completions": [
            {"model": chat, "prompt": "say x", "max_tokens": 2, "stop": ["x"], "echo": False}
        ],
        "/v1/embeddings": [{"model": encoder, "input": ["a", "b"], "encoding_format": "base64"}],
        "/v1/responses": [said, {**said, "input": heard, "stream": True, "store": False}],
        "/v1/images/generations": [{**draw, "response_format": "b64_json", "quality": "low"}],
        "/v1/images/edits": [{**draw, "image": picture, "strength": 1.0}],
        "/v1/batches": [
            {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        ],
        "/v1/jobs": [
            native,
            {"kind": "image", "model": image, "prompt": "x", "grid": {"seed": [1, 2]}, "class": "batch"},
        ],
        "/api/chat": [ollama, {**ollama, "tools": None, "format": _SCHEMA, "stream": True}],
        "/api/generate": [
            {"model": chat, "prompt": "say x", "options": {"num_predict": 2}, "format": "json", "system": "x"}
        ],
        "/api/show": [{"model": chat, "verbose": True}],
        "/api/pull": [{"model": chat, "stream": False}],
        "/api/embed": [{"model": encoder, "input": ["a", "b"], "truncate": True}],
        "/sdapi/v1/txt2img": [web],
        "/sdapi/v1/img2img": [{**web, "init_images": [picture], "denoising_strength": 1.0, "resize_mode": 1}],
        "/sdapi/v1/options": [{"sd_model_checkpoint": image, "jpeg_quality": 80, "samples_format": "png"}],
        "/sdapi/v1/png-info": [{"image": picture}],
        "/internal/progress": [{"id_task": "task(x)", "id_live_preview": -1, "live_preview": True}],
    }


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """One request: where it goes, its headers, its body."""

    path: str
    headers: dict[str, str]
    body: bytes


class Fuzzer:
    """Makes requests for ever, by turns for every path."""

    def __init__(self, valid: dict[str, list[dict[str, Any]]], seed: int) -> None:
        self._chance = random.Random(seed)
        self._valid = list(valid.items())
        self._made = 0

    def next(self) -> Fuzzed:
        path, bodies = self._valid[self._made % len(self._valid)]
        self._made += 1
        value = copy.deepcopy(self._chance.choice(bodies))
        for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
            value = self._change(value)
        body = json.dumps(value, ensure_ascii=self._chance.random() < 0.7, default=str).encode(
            "utf-8", "surrogatepass"
        )
        headers = {"Content-Type": "application/json"}
        if self._chance.random() < 0.25:
            body = self._chance.choice(_TEARS)(body, self._chance)
        if self._chance.random() < 0.05:
            headers = self._chance.choice(_HEADERS)
        return Fuzzed(path, headers, body[:_MOST_BYTES])

    def _change(self, value: Any) -> Any:
        """``value`` with something else in one place of it."""
        places = list(_places(value, ()))
        place = self._chance.choice(places)
        if not place:
            return self._other(value)
        holder = value
        for step in place[:-1]:
            holder = holder[step]
        step = place[-1]
        if self._chance.random() < 0.15:
            del holder[step]
        elif isinstance(holder, dict) and self._chance.random() < 0.1:
            holder[self._chance.choice((str(step).upper(), "__proto__", "\0", "", "é" * 300))] = holder.pop(
                step
            )
        else:
            holder[step] = self._other(holder[step])
        return value

    def _other(self, value: Any) -> Any:
        # A copy: it may be changed in turn, and what stands below is for all.
        return copy.deepcopy(self._chance.choice(_OTHERS)(value, self._chance))


def _places(value: Any, at: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
    found = [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inner:
        found += _places(each, (*at, step))
    return found


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


_SIMPLE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.0, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**63) - 1, 10**400,
    float("nan"), float("inf"), float("-inf"), "", " ", "0", "null", "NaN", [], {}, [None], [[]], {"": None},
    {"type": "text"}, "a" * 20_000, "\0", "\ud800", "\u2028\u2029\x85", "👩‍👩‍👧‍👦" * 50, "e" + "\u0301" * 500,
    "\u202eabc",
    "../../etc/passwd", "http://127.0.0.1:1/x", "data:image/png;base64,AAAA", "%00%s{0}{{7*7}}${x}",
)  # fmt: skip
"""What stands well nowhere."""
_OTHERS: tuple[Callable[[Any, random.Random], Any], ...] = (
    lambda _, chance: chance.choice(_SIMPLE),
    lambda _, chance: chance.choice(_SIMPLE),
    lambda _, chance: chance.choice(_SIMPLE),
    lambda value, _: [value],
    lambda value, _: {"value": value},
    lambda value, _: str(value),
    lambda value, chance: [value] * chance.choice((2, 130, 1500)),
    lambda _, chance: _deep(chance.choice((5, 62, 64, 66, 150))),
    lambda value, chance: value * chance.choice((3, 500)) if isinstance(value, str) else value,
    lambda value, chance: value[: chance.randrange(len(value))] if isinstance(value, str) and value else 7,
    lambda value, chance: "".join(chance.sample(value, len(value))) if isinstance(value, str) else -value
    if isinstance(value, int | float) else value,
    lambda _, chance: chance.choice(_SIMPLE[3:16]),
)  # fmt: skip


_MOST_BYTES = 8 * 2**20
"""More than any limit, and less than a server reads of what it refuses."""


def _twice(body: bytes, chance: random.Random) -> bytes:
    """A name that stands in an object twice."""
    at = chance.choice([place for place, each in enumerate(body) if each == ord("{")] or [0])
    return body[: at + 1] + b'"model": 1, "model": [], ' + body[at + 1 :]


_TEARS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda body, chance: body[: chance.randrange(len(body) + 1)],
    lambda body, chance: body[chance.randrange(len(body) + 1) :],
    lambda body, chance: bytes(each ^ (chance.random() < 0.02) << chance.randrange(8) for each in body),
    lambda body, chance: body.replace(b'"', b"'"),
    lambda body, chance: b"\xef\xbb\xbf" + body,
    lambda body, chance: body.decode(errors="replace").encode(chance.choice(("utf-16", "cp1252")), "replace"),
    lambda body, chance: body + chance.choice((b"}", b"\0", b"garbage", body)),
    lambda body, chance: body.replace(b"a", chance.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"))),
    lambda body, chance: b"[" * chance.choice((100, 100_000)) + body,
    lambda body, chance: b'{"a":' * 60_000,
    lambda body, chance: b"-" + b"9" * 5000,
    lambda body, chance: b" " * 100_000 + body,
    lambda body, chance: b"",
    _twice,
)  # fmt: skip
"""What can be done to bytes."""
_HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "multipart/form-data"},
    {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    {"Content-Type": "application/json", "Idempotency-Key": "k"},
    {"Content-Type": "application/json", "Idempotency-Key": "k" * 300},
    {"Content-Type": "application/json", "Prefer": "wait=999999999"},
    {"Content-Type": "application/json", "x-stainless-read-timeout": "nan"},
    {"Content-Type": "application/json", "x-hearth-strict": "true"},
)
