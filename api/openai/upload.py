"""A form with one file, which goes to the disk as it comes: never more of it than one piece in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from api.errors import Refusal
from api.openai.faults import invalid, missing, unsupported

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_PIECE_S, _WHOLE_S = 60.0, 1800.0
"""The next piece of a form must have arrived by then, and the last one."""
_FIELDS, _FIELD_BYTES, _HEADER_BYTES = 16, 1024, 8192
_NAME_CHARACTERS = 255


@dataclass(slots=True)
class Upload:
    """The fields of a form, and its file: how the client calls it, and how large it is."""

    fields: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    size_bytes: int = 0


async def receive(request: Request, file: BinaryIO, most_bytes: int) -> Upload:
    """Write the form's part ``file`` to ``file``; the rest of the form.

    Raises:
        Refusal: the form cannot be read, did not come whole, or the file is missing or too large.
        OSError: the file cannot be written.
    """
    parts = _Parts(most_bytes)
    try:
        parser = MultipartParser(_boundary(request), parts.callbacks())
        async with asyncio.timeout(_WHOLE_S):
            async for piece in _pieces(request):
                parser.write(piece)
                if data := parts.taken():
                    await asyncio.to_thread(file.write, data)
        parser.finalize()
    except FormParserError:
        raise Refusal("invalid_form", "the form cannot be read: it is cut short or malformed") from None
    except TimeoutError:
        raise Refusal("request_timeout", "the form did not arrive in time") from None
    except ClientDisconnect:
        raise Refusal("request_timeout", "the connection was closed before the form ended") from None
    if not parts.is_whole:
        raise Refusal("invalid_form", "the form cannot be read: its end is missing")
    if parts.upload.name is None:
        raise missing("file")
    return parts.upload


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        message = "send the file as a form, with 'Content-Type: multipart/form-data'"
        raise Refusal("unsupported_media_type", message)
    if not options.get(b"boundary"):
        raise Refusal("invalid_form", "the form cannot be read: its boundary is missing")
    return options[b"boundary"]


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    pieces = aiter(request.stream())
    while True:
        async with _in_time():
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    async with asyncio.timeout(_PIECE_S):
        yield


class _Parts:
    """What the parser finds, kept within bounds. Its methods are the parser's callbacks."""

    def __init__(self, most_bytes: int) -> None:
        self.upload = Upload()
        self.is_whole = False
        self._most_bytes = most_bytes
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._text = bytearray()
        self._data: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }

    def taken(self) -> bytes:
        """What has come of the file since the last call."""
        data = b"".join(self._data)
        self._data.clear()
        return data

    def _begin(self) -> None:
        self._disposition = b""
        self._text.clear()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._check_header()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header) + len(self._value) > _HEADER_BYTES:
            raise Refusal("invalid_form", "the form cannot be read: a header of a part is too long")

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if self._is_file:
            if self._name != "file":
                shown = self._name[:40]
                raise unsupported(shown, "only the field 'file' holds a file")
            if self.upload.name is not None:
                raise unsupported("file", "one file can be sent at a time")
            self.upload.name = _plain(options[b"filename"].decode("utf-8", "replace"))
        elif len(self.upload.fields) >= _FIELDS:
            raise Refusal("invalid_form", f"the form has more than {_FIELDS} fields")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise invalid(self._name[:40], f"at most {_FIELD_BYTES} bytes long")
            return
        self.upload.size_bytes += end - start
        if self.upload.size_bytes > self._most_bytes:
            what = f"the file has more than {self._most_bytes} bytes"
            raise Refusal("payload_too_large", what, "file", connection="close")
        self._data.append(data[start:end])

    def _end(self) -> None:
        if not self._is_file:
            self.upload.fields[self._name] = self._text.decode("utf-8", "replace")

    def _end_all(self) -> None:
        self.is_whole = True


def _plain(name: str) -> str:
    """What a person recognises the file by: no directories, nothing that cannot be seen."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in last if char.isprintable())[:_NAME_CHARACTERS] or "file"
