"""Which addresses and URLs webhooks may lead to."""

import ipaddress

import pytest

from service.domain.webhooks import Targets, is_public

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",  # shared address space of carriers (RFC 6598)
    "127.0.0.1",
    "169.254.169.254",  # metadata of cloud machines
    "172.16.0.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",  # 127.0.0.1 behind a translator (RFC 6052)
    "2002:7f00:1::",  # 127.0.0.1 by 6to4
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:7f00:1]:8443/x",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://10.0.0.1./",
    ],
)
def test_every_spelling_of_a_private_address_is_refused(url):
    assert Targets().broken_rule(url) == "only public addresses are called"


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("ftp://example.com/", "a URL such as"),
        ("https://", "a URL such as"),
        ("https://exa mple.com/", "a URL such as"),
        ("https://example.com\\@10.0.0.1/", "a URL such as"),
        ("https://bücher.example/", "in ASCII"),
        ("https://example.com:99999/", "a URL such as"),
        ("https://[::1/", "a URL such as"),
        ("https://user@example.com/", "user name or password"),
        ("http://example.com/", "only https"),
        ("https://example.com:22/", "only the ports 443 and 8443"),
        ("https://192.88.99.1/", "only public"),
        ("https://168.63.129.16/", "only public"),
        ("https://[2002:a83f:8110::1]/", "only public"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url, rule):
    broken = Targets().broken_rule(url)
    assert broken is not None
    assert rule in broken


def test_public_https_is_called():
    assert Targets().broken_rule("https://example.com:8443/hooks?token=a%20b") is None


def test_the_operator_allows_hosts_and_networks():
    targets = Targets.parse(["hooks.internal", "10.1.0.0/16", "::1"])
    assert targets.broken_rule("http://hooks.internal/x") is None
    assert targets.broken_rule("http://10.1.2.3:8000/x") is None
    assert targets.broken_rule("https://[::1]/") is None
    assert targets.broken_rule("https://10.2.2.3/") is not None
    assert targets.allows("hooks.internal", ipaddress.ip_address("192.168.0.9"))
    assert targets.allows("other.example", ipaddress.ip_address("10.1.2.3"))
    assert not targets.allows("other.example", ipaddress.ip_address("192.168.0.9"))


def test_a_network_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is no network"):
        Targets.parse(["10.0.0.1/8"])
