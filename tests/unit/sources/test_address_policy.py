"""Tests of the address policy: only public addresses are connected to."""

import asyncio
import ipaddress

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.sources._web.addresses import AddressBlockedError, AddressPolicy, is_public, resolve
from mmsearch.sources._web.fetch import MAX_ADDRESSES, PolicyBackend

PORT = 443


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "192.0.1.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"],
)
def test_is_public_internet_address_returns_true(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - the test binds no socket to it
        "0.1.2.3",
        "10.255.255.255",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "233.252.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::8.8.8.8",
        "::ffff:10.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:808:808::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "",
        "localhost",
        "127.1",
        "8.8.8.8:80",
        "[2606:4700::1111]",
    ],
)
def test_is_public_reserved_or_malformed_address_returns_false(address):
    assert not is_public(address)


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

v4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
# Random addresses rarely fall into networks with special rules.
special = st.sampled_from(
    [
        ipaddress.ip_network(each)
        for each in (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
            *("::/64", "::ffff:0:0/96", "64:ff9b::/95", "2001::/22", "2002::/15", "fc00::/6"),
            *("fe80::/9", "ff00::/8"),
        )
    ]
).flatmap(lambda network: st.integers(0, network.num_addresses - 1).map(lambda n: network[n]))
addresses = st.one_of(v4, v6, special)


@given(addresses)
def test_is_public_accepts_only_global_unicast_addresses(address):
    mapped = getattr(address, "ipv4_mapped", None)
    # Python versions classify mapped addresses differently; the next test covers those.
    if mapped is not None or not is_public(str(address)):
        return
    assert address.is_global
    assert not address.is_multicast
    assert not address.is_private
    if address.version == 6 and address not in NAT64:
        assert (address.sixtofour, address.teredo) == (None, None)
        assert int(address) >> 125 == 1


@given(st.one_of(v4, special.filter(lambda address: address.version == 4)))
def test_is_public_ipv6_embedding_ipv4_follows_ipv4_or_returns_false(address):
    number = int(address)
    public = is_public(str(address))
    assert is_public(str(ipaddress.IPv6Address(0xFFFF << 32 | number))) is public
    assert is_public(str(NAT64[number])) is public
    for never in (
        number,
        0x2002 << 112 | number << 80,
        0x20010000 << 96 | (number ^ 0xFFFFFFFF),
        0x20010000 << 96 | number << 64,
    ):
        assert not is_public(str(ipaddress.IPv6Address(never)))


class Network(httpcore2.AsyncNetworkBackend):
    """Network backend that connects to nothing and records each requested address."""

    def __init__(self, silent=()):
        self.silent = silent
        self.asked = []

    async def connect_tcp(self, host, port, *arguments, **options):
        self.asked.append((host, port))
        if host in self.silent:
            raise httpcore2.ConnectTimeout
        return self


def connect(found, network, **rules):
    async def resolve(host, port):
        return found

    vetting = PolicyBackend(AddressPolicy(resolve=resolve, **rules), network)
    return asyncio.run(vetting.connect_tcp("photos.example", PORT))


@given(st.lists(addresses.map(str), max_size=4))
def test_policy_backend_connects_only_if_all_resolved_addresses_are_public(found):
    network = Network()
    if found and all(map(is_public, found)):
        connect(found, network)
        assert network.asked == [(found[0], PORT)]
    else:
        with pytest.raises(AddressBlockedError):
            connect(found, network)
        assert network.asked == []


def test_policy_backend_connect_timeout_tries_at_most_max_addresses():
    found = [f"8.8.8.{last}" for last in range(6)]
    network = Network(silent=found[:2])
    connect(found, network)
    assert [host for host, _ in network.asked] == found[:3]
    network = Network(silent=found)
    with pytest.raises(httpcore2.ConnectTimeout):
        connect(found, network)
    assert [host for host, _ in network.asked] == found[:MAX_ADDRESSES]


def test_policy_backend_disallowed_port_raises_and_never_connects():
    network = Network()
    with pytest.raises(AddressBlockedError):
        connect(["8.8.8.8"], network, ports=frozenset({80}))
    assert network.asked == []


@pytest.mark.parametrize("error", [OSError("no"), UnicodeError("label too long")])
def test_address_policy_failed_name_lookup_raises_address_blocked_error(error):
    async def fail(host, port):
        raise error

    with pytest.raises(AddressBlockedError):
        asyncio.run(AddressPolicy(resolve=fail).resolve_allowed("x", PORT))


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("127.0.0.1", ["127.0.0.1"]), ("0x7f.1", ["127.0.0.1"]), ("::1", ["::1"])],
)
def test_resolve_numeric_host_returns_its_address(host, addresses, socket_enabled):
    assert asyncio.run(resolve(host, PORT)) == addresses
