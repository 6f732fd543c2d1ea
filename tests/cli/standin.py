"""One stand-in process, on the standard library alone so that it is there at once.

``STANDIN_<NAME>`` makes it misbehave: ``dies`` at its start, or is ``deaf`` to being asked to stop.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

NAME = sys.argv[1]
MANNER = os.environ.get(f"STANDIN_{NAME.upper()}", "")
ANSWERS = {
    "/health": {"status": "ok"},
    "/ready": {"ready": True},
    "/v1/models": {"data": [{"id": "stand-in", "hearth": {"kind": "chat"}}]},
    "/v1/device": {"data": [{"id": "card-0", "virtual": os.environ.get("STANDIN_CARD") != "real"}]},
}


def tell(what: str) -> None:
    with open(os.environ["STANDIN_TOLD"], "a", encoding="ascii") as told:  # noqa: PTH123 - starts fast
        told.write(f"{NAME} {what}\n")


def on_term(number: int, frame: object) -> None:
    tell("term")
    if MANNER != "deaf":
        os._exit(0)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        pass


def main() -> None:
    signal.signal(signal.SIGTERM, on_term)
    tell(f"start {os.getpid()}")
    print(f"{NAME} speaks", flush=True)  # noqa: T201
    if MANNER == "dies":
        sys.exit("it cannot go on like this")
    if NAME == "api":
        HTTPServer((os.environ["HEARTH_HOST"], int(os.environ["HEARTH_PORT"])), Handler).serve_forever()
    while True:
        signal.pause()


main()
