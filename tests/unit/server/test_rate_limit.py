"""Tests of the rate limit of each client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.server.rate_limit import RateLimit, client_key


@given(
    per_s=st.floats(0.5, 50),
    gaps=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_rate_limit_never_admits_more_than_rate(per_s, gaps):
    now = 0.0
    limit = RateLimit(per_s, lambda: now)
    passed = 0
    for gap in gaps:
        now += gap
        passed += limit.acquire("a") == 0
    assert passed <= max(1.0, per_s) + per_s * now + 1e-6


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2:aaaa::1", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_client_key_groups_addresses_of_one_client(address, client):
    assert client_key(address) == client


@given(
    per_s=st.floats(0.5, 50),
    asked=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 30)), min_size=1, max_size=60),
)
def test_rate_limit_add_counts_each_item_of_request(per_s, asked):
    now, passed = 0.0, 0
    limit = RateLimit(per_s, lambda: now)
    for gap, things in asked:
        now += gap
        # All items before the last admitted request are within the rate.
        if limit.acquire("a") == 0:
            assert passed <= max(1.0, per_s) + per_s * now + 1e-6
            passed += things
            limit.add("a", things - 1)


def test_rate_limit_acquire_after_many_items_returns_wait_time():
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])
    assert limit.acquire("a") == 0
    limit.add("a", 9)
    assert limit.acquire("a") == pytest.approx(4.5)
    assert limit.acquire("b") == 0
    now[0] = 4.5
    assert limit.acquire("a") == 0


def test_rate_limit_zero_rate_never_limits():
    limit = RateLimit(0, lambda: 0.0)
    limit.add("a", 1000)
    assert limit.acquire("a") == 0


def test_rate_limit_ipv6_addresses_of_one_network_count_as_one_client():
    limit = RateLimit(1, lambda: 0.0)
    assert limit.acquire("2001:db8::1") == 0
    assert limit.acquire("2001:db8::2") == 1
    assert limit.acquire("2001:db8:0:1::1") == 0
