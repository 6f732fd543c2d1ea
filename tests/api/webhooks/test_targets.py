"""Where webhooks may go. Nothing here looks up a name or opens a connection."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api.webhooks.targets import Refused, Targets, origin_of
from config.groups import WebhookSettings
from config.networks import is_public

HOME = WebhookSettings(
    allowed_hosts=("hooks.example.org", "*.lan.example", "Odd.Example:8443", "pi.local:8123"),
    private_networks=(ip_network("192.168.1.0/24"), ip_network("fd12:3456::/32")),
)
EVERYWHERE = WebhookSettings(allowed_hosts=("*",))
SPECIAL_V4 = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
SPECIAL_V6 = (
    "::/128", "::1/128", "::ffff:10.0.0.0/104", "::ffff:127.0.0.0/104", "64:ff9b::/96",
    "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32",
    "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip
SPECIAL = st.one_of(
    *(st.ip_addresses(network=each) for each in SPECIAL_V4),
    *(st.ip_addresses(network=each) for each in SPECIAL_V6),
)


def refused(settings: WebhookSettings, url: str) -> str:
    with pytest.raises(Refused) as caught:
        Targets(settings).checked(url)
    return str(caught.value)


def literal(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/x?y=1",
        "https://HOOKS.example.ORG/x",
        "https://hooks.example.org:443/",
        "https://a.lan.example/",
        "https://a.b.lan.example",
        "https://odd.example:8443/",
        "http://pi.local:8123/api/webhook/secret",
        "http://192.168.1.7:1880/",
        "https://192.168.1.7/",
        "http://[fd12:3456::1]:8080/x",
    ],
)
def test_what_the_operator_named_is_allowed(url: str) -> None:
    assert Targets(HOME).checked(url).path.startswith("/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://other.example.org/", "webhooks.allowed_hosts"),
        ("https://hooks.example.org.evil.example/", "webhooks.allowed_hosts"),
        ("https://evilhooks.example.org/", "webhooks.allowed_hosts"),
        ("https://lan.example/", "webhooks.allowed_hosts"),
        ("https://notlan.example/", "webhooks.allowed_hosts"),
        ("https://hooks.example.org:8443/", "webhooks.allowed_hosts"),
        ("https://odd.example/", "webhooks.allowed_hosts"),
        ("https://93.184.215.14/", "webhooks.allowed_hosts"),
        ("http://93.184.215.14/", "webhooks.private_networks"),
        ("https://192.168.2.7/", "webhooks.private_networks"),
        ("https://[::1]/", "webhooks.private_networks"),
        ("https://user@hooks.example.org/", "user"),
        ("https://user:pass@hooks.example.org/", "user"),
        ("https://@hooks.example.org/", "user"),
        ("https://hooks.example.org@evil.example/", "user"),
        ("https://hooks.example.org#@evil.example/", "user"),
        ("https://hooks.example.org/#x", "fragment"),
        ("https://hooks.example.org\\@evil.example/", "ASCII"),
        ("https://hooks.example.org/ x", "ASCII"),
        (" https://hooks.example.org/", "ASCII"),
        ("https://hooks.example.org/\n", "ASCII"),
        ("https://hooks.ex\u00e4mple.org/", "ASCII"),
        ("https://①②⑦.0.0.1/", "ASCII"),
        ("https://hooks%2eexample.org/", "odd"),
        ("https://hooks.example.org./", "odd"),
        ("https://hooks..example.org/", "odd"),
        ("https://-hooks.example.org/", "odd"),
        ("https://hooks.example.org:0/", "port"),
        ("https://hooks.example.org:99999/", "port"),
        ("https://hooks.example.org:x/", "address"),
        ("https:///x", "host"),
        ("https://", "host"),
        ("//hooks.example.org/", "https://"),
        ("hooks.example.org", "https://"),
        ("ftp://hooks.example.org/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("javascript:alert(1)", "https://"),
        ("", "characters"),
        ("https://hooks.example.org/" + "x" * 2048, "characters"),
        ("https://[fe80::1%25eth0]/", ""),
        ("https://[::ffff:192.168.1.7]/", "odd"),
        ("https://[::ffff:c0a8:107]/", "odd"),
        ("https://[::192.168.1.7]/", "webhooks.private_networks"),
    ],
)
def test_everything_else_is_refused_in_words_that_help(url: str, why: str) -> None:
    assert why in refused(HOME, url)


@pytest.mark.parametrize("url", ["https://hooks.example.org/", "http://127.0.0.1/", "https://8.8.8.8/"])
def test_without_settings_nothing_is_allowed(url: str) -> None:
    assert "webhooks." in refused(WebhookSettings(), url)


@given(SPECIAL)
def test_no_special_address_is_public_and_none_is_allowed_unasked(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address)
    refused(EVERYWHERE, f"https://{literal(address)}/")
    with pytest.raises(Refused):
        Targets(EVERYWHERE).reachable("https", [address])


@given(st.ip_addresses(v=4))
def test_an_address_is_only_known_in_its_usual_spelling(address: IPv4Address) -> None:
    number, parts = int(address), str(address).split(".")
    spellings = [
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(hex(int(part)) for part in parts),
        ".".join(f"0{int(part):o}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        str(address) + ".",
        f"[::ffff:{address}]",
    ]
    anywhere = WebhookSettings(allowed_hosts=("*",), private_networks=(ip_network("127.0.0.0/8"),))
    for spelling in spellings:
        told = refused(anywhere, f"https://{spelling}/")
        assert "odd spelling" in told or "is no address" in told


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(network="2a00::/12")))
def test_what_is_public_may_be_named_by_number_where_every_name_may(
    address: IPv4Address | IPv6Address,
) -> None:
    assume(is_public(address))
    url = Targets(EVERYWHERE).checked(f"https://{literal(address)}/")
    assert ip_address(url.host) == address
    assert "private_networks" in refused(EVERYWHERE, f"http://{literal(address)}/")


@given(st.text())
def test_any_text_is_allowed_or_refused(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://hooks.example.org{text}"):
        try:
            url = Targets(HOME).checked(candidate)
        except Refused:
            continue
        assert url.host == "hooks.example.org" or url.host.endswith((".lan.example", ".local", ".example"))


def test_of_a_names_addresses_only_the_allowed_are_used() -> None:
    targets = Targets(HOME)
    found = [ip_address(each) for each in ("10.0.0.1", "192.168.1.7", "93.184.215.14", "::ffff:192.168.1.7")]
    assert [str(each) for each in targets.reachable("https", found)] == ["192.168.1.7", "93.184.215.14"]
    assert [str(each) for each in targets.reachable("http", found)] == ["192.168.1.7"]
    assert targets.reachable("https", []) == []
    with pytest.raises(Refused, match="plain http"):
        targets.reachable("http", [ip_address("93.184.215.14")])


def test_what_is_logged_of_an_address_holds_no_secret() -> None:
    assert (
        origin_of("https://me:pw@hooks.example.org:8443/secret?token=x") == "https://hooks.example.org:8443"
    )
