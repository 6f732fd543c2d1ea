"""What keeps other people's web pages out: a browser on this machine runs them, and reaches what it reaches.

A page cannot choose two headers: ``Host``, the name the browser believes to be talking to, and what tells the
page's own origin. The first gives away a page whose name was made to point here (DNS rebinding), the second
one that sends a form or a POST across sites, which browsers do without asking. What is no browser sends no
such header, or one that fits.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Problem
from config.settings import Settings, is_loopback

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing; what they answer no page of another origin is shown."""
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - told apart, not listened on


class Visitors:
    """ASGI middleware: 403 for a name that is not ours, and for what the page of another origin would change.

    The second rule is that of Go's ``http.CrossOriginProtection`` (Go 1.25).
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._names = names_of(settings)
        self._origins = settings.cors_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        await (self._app if problem is None else problem.response(scope["path"]))(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._names is not None and not is_ours(host, self._names):
            return _stranger(host)
        if scope["method"] in _SAFE:
            return None
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1").lower()
        if "*" in self._origins or origin in self._origins or is_own_page(host, origin, site):
            return None
        return _foreign_page(origin)


def names_of(settings: Settings) -> Collection[str] | None:
    """The names this server is called by; None: whatever it is called.

    On loopback nobody may need a key, so a name counts. Beyond it a key is demanded, which no page of others
    has: names count once an operator has set some.
    """
    if not is_loopback(settings.host) and not settings.hosts:
        return None
    own = () if settings.host in _EVERYWHERE else (settings.host.lower(),)
    return ("localhost", "*.localhost", *own, *settings.hosts)


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a ``Host`` is an address of loopback or one of ``names``. Without one it was no browser."""
    name = name_in(host)
    if not host or name in names or any(name.endswith(end[1:]) for end in names if end[:2] == "*."):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def name_in(host: str) -> str:
    """``Host`` without port, brackets and the dot of the root."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_own_page(host: str, origin: str, site: str) -> bool:
    """Whether a request comes from our own page, from the address bar, or from what is no browser."""
    if site:
        return site in ("same-origin", "none")
    return not origin or urlsplit(origin).netloc == host


def _stranger(host: str) -> Problem:
    return Problem(
        "host_not_allowed",
        f"this server is not called {name_in(host)[:100]!a}; if it is meant to be, add the name to the "
        "setting 'hosts' (HEARTH_HOSTS)",
    )


def _foreign_page(origin: str) -> Problem:
    return Problem(
        "origin_not_allowed",
        f"a web page of another origin ({origin[:100]!a}) may not change anything here; to let it, "
        "add its origin to the setting 'cors_origins' (HEARTH_CORS_ORIGINS)",
    )
