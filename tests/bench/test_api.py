"""The benchmark's own arithmetic, and that it really asks and really listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.api import PATHS, Found, ask, figures_of, held, rows_of


class _Answers(BaseHTTPRequestHandler):
    """A list for who looks; two pieces of a stream, and no end, for who listens."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_stream = self.path == "/stream"
        self.send_response(404 if self.path == "/nothing" else 200)
        self.send_header(*(("Transfer-Encoding", "chunked") if is_stream else ("Content-Length", "2")))
        self.end_headers()
        self.wfile.write(b"3\r\nabc\r\n3\r\ndef\r\n" if is_stream else b"{}")
        if is_stream:
            self.rfile.read(1)  # until the listener leaves
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def found(metadata_ms: float, rss: int) -> Found:
    times = [1.0] * 97 + [metadata_ms] * 3
    return Found(
        dict.fromkeys(PATHS, times),
        {"alone": [10.0, 12.0], "listened": [11.0, 13.2]},
        streams_open=32,
        jobs_waiting=64,
        readers=200,
        rss_before=100_000_000,
        rss_after=100_000_000 + rss,
    )


def test_the_figures_are_told_under_their_names() -> None:
    figures = figures_of(found(20.0, 5_000_000))
    assert figures["metadata_p99_ms"] == {"tags": 20.0, "models": 20.0, "health": 20.0}
    assert (figures["sse_readers"], figures["sse_readers_rss_bytes"]) == (200, 5_000_000)
    assert figures["first_token_ratio"] == pytest.approx(1.1)
    assert all(row.is_met is not False for row in rows_of(figures))


@pytest.mark.parametrize(("metadata_ms", "rss"), [(26.0, 0), (1.0, 61 * 2**20)])
def test_what_is_too_slow_or_too_large_is_missed(metadata_ms: float, rss: int) -> None:
    assert any(row.is_met is False for row in rows_of(figures_of(found(metadata_ms, rss))))


def test_it_asks_for_each_and_keeps_the_times(url: str) -> None:
    taken = ask(url, 3)
    assert {name: len(times) for name, times in taken.items()} == dict.fromkeys(PATHS, 3)


def test_listeners_hold_their_requests_open(url: str) -> None:
    with held(url, [("GET", "/stream", None)] * 3) as told:
        assert told == {}, "they have not ended"
    assert told == {"bytes": 3 * len("3\r\nabc\r\n3\r\ndef\r\n"), "ended": 0}
    with pytest.raises(RuntimeError, match="opened"), held(url, [("GET", "/nothing", None)]):
        pass
