"""``python -m api``: one process that listens, and leaves in good order when told to."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.context import Context
from api.main import create_app
from config.settings import Settings, SettingsError
from config.settings import settings as read_settings

log = logging.getLogger("hearth.api")

LEAVE_S = 5
"""How long answers may take once the process was told to stop."""
PORT_FILE = "api.port"


class Server(uvicorn.Server):
    """Tells the open streams to end before it waits for them."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # uvicorn would raise the signal again at the end: having left in good order is exit code 0.
        self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._context.closing.set()
        await super().shutdown(sockets)


def listen(settings: Settings) -> socket.socket:
    """A listening socket. Raises OSError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    # A restart must not wait for the connections of the last process to be forgotten.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=LEAVE_S,
    )


def note_port(data_dir: Path, port: int) -> None:
    """Leave the port where other programs look for it; read whole or not at all."""
    data_dir.mkdir(parents=True, exist_ok=True)
    fresh = data_dir / f"{PORT_FILE}.{os.getpid()}"
    fresh.write_text(f"{port}\n")
    fresh.replace(data_dir / PORT_FILE)


def forget_port(data_dir: Path, port: int) -> None:
    """Take the note away, unless another process has left its own."""
    note = data_dir / PORT_FILE
    if note.exists() and note.read_text() == f"{port}\n":
        note.unlink()


def _refuse(message: str, code: int) -> int:
    sys.stderr.write(f"hearth api: {message}\n")
    return code


SWITCH_S = 0.0005
"""Python's 5 ms are long here: the loop and the thread that sends messages would wait for each other."""


def main() -> int:
    try:
        settings = read_settings()
        app = create_app(settings)
    except SettingsError as error:
        return _refuse(str(error), 2)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        listener = listen(settings)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        return _refuse(f"cannot listen on {where}: {error.strerror}; choose another --port", 1)
    host, port = listener.getsockname()[:2]
    try:
        note_port(settings.data_dir, port)
    except OSError as error:
        listener.close()
        place = settings.data_dir
        return _refuse(f"cannot write in {place}: {error.strerror}; correct HEARTH_DATA_DIR", 1)
    log.info("settings: %s", settings.redacted())
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    try:
        sys.setswitchinterval(SWITCH_S)
        Server(configured(app, settings), app.state.context).run(sockets=[listener])
    finally:
        forget_port(settings.data_dir, port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
