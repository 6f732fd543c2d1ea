"""Hearth's API as the command line sees it: answers as JSON, faults as one line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

from cli.banner import DEFAULT_URL
from cli.errors import UNREACHABLE, USAGE, CliError
from cli.sse import Comment, Message, messages

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
DELETE_S = 120.0
"""A model is taken off its card first, which is a job of its own."""
SILENCE_S = 60.0
"""A stream says something every few seconds, if only that it lives."""


class Client:
    """Use as a context manager. Every method raises CliError with a line fit to print."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.url = (url or os.environ.get("HEARTH_URL") or DEFAULT_URL).rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = TIMEOUT if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=timeout, transport=transport, trust_env=False
            )
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError):
            raise CliError(f"{self.url!r} is no address like {DEFAULT_URL}", status=USAGE) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return self._json("GET", path, params=given)

    def post(self, path: str, body: Any = None) -> Any:
        return self._json("POST", path, json=body)

    def upload(self, path: str, name: str, data: BinaryIO, **fields: str) -> Any:
        """Send a file as a form; it is read as it is sent."""
        timeout = httpx.Timeout(SILENCE_S, connect=5.0)
        return self._json("POST", path, files={"file": (name, data)}, data=fields, timeout=timeout)

    def download_to(self, path: str, file: BinaryIO) -> None:
        """A file of any size, piece by piece."""
        with self._reached(), self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
                raise _refused(response)
            for piece in response.iter_bytes():
                file.write(piece)

    def delete(self, path: str, body: Any) -> None:
        with self._reached():
            response = self._http.request("DELETE", path, json=body, timeout=DELETE_S)
        if response.is_error:
            raise _refused(response)

    def lines(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """What is answered as one JSON object a line."""
        with self._stream("POST", path, json=body) as response:
            for line in filter(None, response.iter_lines()):
                try:
                    yield json.loads(line)
                except ValueError:
                    raise CliError(f"{self.url} did not answer in JSON: is that a Hearth?") from None

    def remove(self, path: str) -> Any:
        """Like ``delete``, where the answer says what was removed."""
        return self._json("DELETE", path)

    def download(self, path: str) -> bytes:
        """A file as it is."""
        with self._reached():
            response = self._http.get(path)
        if response.is_error:
            raise _refused(response)
        return response.content

    def follow(self, job_id: str) -> Iterator[Message | Comment]:
        """The job's events until its terminal one, over as many connections as it takes."""
        last_id: str | None = None
        failures = 0
        while True:
            headers = {} if last_id is None else {"last-event-id": last_id}
            with self._stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
                try:
                    for item in messages(response.iter_lines()):
                        yield item
                        if isinstance(item, Message):
                            last_id, failures = item.id or last_id, 0
                            if item.is_terminal:
                                return
                except (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout):
                    pass
            failures += 1
            if failures > 3:
                raise CliError(
                    f"the connection to {self.url} broke off; go on with:  hearth jobs wait {job_id}",
                    status=UNREACHABLE,
                )

    @contextmanager
    def _stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(SILENCE_S, connect=5.0)
        with self._reached(), self._http.stream(method, path, timeout=timeout, **arguments) as response:
            if response.is_error:
                response.read()
                raise _refused(response)
            yield response

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        with self._reached():
            response = self._http.request(method, path, **arguments)
        if response.is_error:
            raise _refused(response)
        try:
            return response.json()
        except ValueError:
            raise CliError(f"{self.url} did not answer in JSON: is that a Hearth?") from None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError:
            raise CliError(
                f"no server at {self.url}. Start it with:  ./hearth up   "
                "(or name another: --url, HEARTH_URL)",
                status=UNREACHABLE,
            ) from None
        except httpx.TimeoutException:
            raise CliError(
                f"{self.url} did not answer in time; its logs may tell why", status=UNREACHABLE
            ) from None
        except httpx.UnsupportedProtocol:
            raise CliError(f"{self.url!r} is no address like {DEFAULT_URL}", status=USAGE) from None
        except httpx.HTTPError as error:
            raise CliError(f"talking to {self.url} failed: {error}", status=UNREACHABLE) from None


def _refused(response: httpx.Response) -> CliError:
    """The server's own words, and what to do where we know."""
    try:
        error = response.json()["error"]
        message = error if isinstance(error, str) else str(error["message"])  # Ollama's form, and OpenAI's
    except (ValueError, KeyError, TypeError):
        return CliError(f"the server answered {response.status_code} without saying why: is that a Hearth?")
    if response.status_code == 401:
        return CliError(f"{message}: set HEARTH_API_KEY, or pass --api-key")
    retry = response.headers.get("retry-after")
    again = f" (try again in {retry} s)" if retry and response.status_code in (429, 503) else ""
    return CliError(message + again)
