"""Where webhooks may go: decided by the address as it is written, and again by what its name leads to.

An address that a client names is a request that this machine makes in its place, from inside its network.
So nothing is allowed that the operator has not named, a name is looked up once, and what was looked at is
what is connected to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import httpx

from config.groups import WebhookSettings
from config.networks import Address, is_public, plain

_URL_CHARACTERS = 2048
_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER_AT_END = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
"""Such a host is an IPv4 address in some spelling, and programs disagree in which (WHATWG URL, 3.5)."""
_USUAL_PORTS = {"https": 443, "http": 80}


class Refused(Exception):
    """A webhook may not go there; the message says why, in words that go behind "it" or a field's name."""


class Targets:
    """The operator's rules, as the settings state them."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._private = settings.private_networks
        self._allowed = [_pattern(host) for host in settings.allowed_hosts]

    def checked(self, text: str) -> httpx.URL:
        """The address that ``text`` is, if a webhook may go there as far as its name tells.

        Raises:
            Refused: it is not one, is written in an odd way, or is not allowed.
        """
        url = _parsed(text)
        literal = _literal(url.host)
        port = url.port or _USUAL_PORTS[url.scheme]
        if literal is not None and self._is_at_home(literal):
            return url
        if literal is not None and not is_public(literal):
            raise Refused(
                f"may not go to {url.host}, which is in none of the setting webhooks.private_networks"
            )
        if url.scheme != "https" and (literal is not None or not self._private):
            raise Refused(
                "should begin with https://: plain http is for the networks of webhooks.private_networks"
            )
        if not any(_matches(pattern, url.host, url.scheme, port) for pattern in self._allowed):
            where = url.host if url.port is None else f"{url.host}:{url.port}"
            raise Refused(f"may not go to {where}, which is not in the setting webhooks.allowed_hosts")
        return url

    def reachable(self, scheme: str, found: Iterable[Address]) -> list[Address]:
        """Those addresses of an allowed name that may be connected to. Raises Refused when none may."""
        addresses = list(dict.fromkeys(plain(each) for each in found))
        good = [
            each for each in addresses if self._is_at_home(each) or (scheme == "https" and is_public(each))
        ]
        if addresses and not good:
            # Not which: what a name leads to inside is nothing for who asked.
            why = "by plain http " if any(is_public(each) for each in addresses) else ""
            raise Refused(f"may not go {why}where this name leads: see the setting webhooks.private_networks")
        return good

    def _is_at_home(self, address: Address) -> bool:
        return any(address in network for network in self._private if network.version == address.version)


def _parsed(text: str) -> httpx.URL:
    """``text`` read once: what is looked at is what will be asked."""
    if not 1 <= len(text) <= _URL_CHARACTERS:
        raise Refused(f"should have 1 to {_URL_CHARACTERS} characters")
    if not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise Refused("should be ASCII without spaces and backslashes: names as xn--…, the rest as %XX")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise Refused("is no address like https://hooks.example.org/hearth") from None
    if url.scheme not in _USUAL_PORTS or not url.host:
        raise Refused("should begin with https:// and a host")
    if "@" in url.netloc.decode() or "@" in text.split("/", 3)[2]:
        raise Refused("may not hold a user or a password: put a token into the path")
    if "#" in text:
        raise Refused("may not hold a fragment ('#…'), which is never sent")
    if url.port is not None and not 1 <= url.port <= 65535:
        raise Refused(f"names the port {url.port}, which there is not")
    return url


def _literal(host: str) -> Address | None:
    """The address that ``host`` is; None for a name. Raises Refused for an odd spelling of either."""
    if ":" in host:
        return _ipv6(host)
    if _NUMBER_AT_END.fullmatch(host):
        try:
            return IPv4Address(host)
        except AddressValueError:
            raise Refused("names an IPv4 address in an odd spelling: four numbers and three dots") from None
    if not _NAME.fullmatch(host):
        raise Refused("names a host in an odd spelling: letters, digits, '-', '_' and single dots between")
    return None


def _ipv6(host: str) -> IPv6Address:
    try:
        address = IPv6Address(host)
    except AddressValueError:
        raise Refused("names no IPv6 address between its brackets") from None
    if address.scope_id is not None:
        raise Refused("names an IPv6 address with a zone, which is this machine's own affair")
    if address.ipv4_mapped is not None:
        raise Refused(f"names {address.ipv4_mapped} in an odd spelling: write it as it is")
    return address


def _pattern(host: str) -> tuple[str, int | None]:
    name, _, port = host.partition(":")
    return name, int(port) if port else None


def _matches(pattern: tuple[str, int | None], host: str, scheme: str, port: int) -> bool:
    name, wanted = pattern
    if port != (_USUAL_PORTS[scheme] if wanted is None else wanted):
        return False
    return name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:]))


def origin_of(text: str) -> str:
    """What may be logged of an address: paths and queries of webhooks are often secrets."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        return "an address that cannot be read"
    return f"{url.scheme}://{url.netloc.decode().rpartition('@')[2]}"
