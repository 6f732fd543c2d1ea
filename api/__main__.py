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
from config.logs import Discreet
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


class CannotListen(Exception):
    """A port is not to be had; the message names it and its setting, and says what would help."""


def listen(settings: Settings) -> list[socket.socket]:
    """A listening socket for each of ``settings.ports``, in their order. Raises CannotListen.

    A port that was asked for and cannot be had is an error, whichever it is: a client that finds nobody there
    would not know why.
    """
    listeners: list[socket.socket] = []
    for name, port in settings.ports.items():
        try:
            listeners.append(_listener(settings.host, port))
        except OSError as error:
            for listener in listeners:
                listener.close()
            raise CannotListen(_unheard(name, settings.host, port, error)) from None
    return listeners


def _listener(host: str, port: int) -> socket.socket:
    """Raises OSError when the address is taken or not ours."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # A restart must not wait for the connections of the last process to be forgotten.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _unheard(name: str, host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}:{port}: {error.strerror}"
    if name == "port":
        return f"{where}; choose another --port"
    return f"{where}; stop who does (sudo ss -ltnp 'sport = :{port}'), or leave HEARTH_{name.upper()} unset"


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


def _log_to_stderr(level: str) -> None:
    # Of a log that cannot be written, logging would print what was to be logged.
    logging.raiseExceptions = level == "debug"
    handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(Discreet(form, whole=level == "debug"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


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
    _log_to_stderr(settings.log_level)
    try:
        listeners = listen(settings)
    except CannotListen as error:
        return _refuse(str(error), 1)
    addresses = [listener.getsockname()[:2] for listener in listeners]
    port = addresses[0][1]
    try:
        note_port(settings.data_dir, port)
    except OSError as error:
        for listener in listeners:
            listener.close()
        place = settings.data_dir
        return _refuse(f"cannot write in {place}: {error.strerror}; correct HEARTH_DATA_DIR", 1)
    log.info("settings: %s", settings.redacted())
    for host, each in addresses:
        log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, each)
    try:
        sys.setswitchinterval(SWITCH_S)
        Server(configured(app, settings), app.state.context).run(sockets=listeners)
    finally:
        forget_port(settings.data_dir, port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
