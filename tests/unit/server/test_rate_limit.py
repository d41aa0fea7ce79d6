"""How often each client may ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.server.rate_limit import RateLimit, client_key


@given(
    per_s=st.floats(0.5, 50),
    gaps=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_allows(per_s, gaps):
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
def test_addresses_that_one_client_can_choose_count_as_one(address, client):
    assert client_key(address) == client


@given(
    per_s=st.floats(0.5, 50),
    asked=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 30)), min_size=1, max_size=60),
)
def test_what_asks_for_several_things_counts_as_so_many(per_s, asked):
    now, passed = 0.0, 0
    limit = RateLimit(per_s, lambda: now)
    for gap, things in asked:
        now += gap
        # All before the last one that passes were within the rate.
        if limit.acquire("a") == 0:
            assert passed <= max(1.0, per_s) + per_s * now + 1e-6
            passed += things
            limit.add("a", things - 1)


def test_how_long_to_wait_after_several_things():
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])
    assert limit.acquire("a") == 0
    limit.add("a", 9)
    assert limit.acquire("a") == pytest.approx(4.5)
    assert limit.acquire("b") == 0
    now[0] = 4.5
    assert limit.acquire("a") == 0


def test_nothing_is_counted_without_a_limit():
    limit = RateLimit(0, lambda: 0.0)
    limit.add("a", 1000)
    assert limit.acquire("a") == 0


def test_a_client_that_changes_its_address_is_counted():
    limit = RateLimit(1, lambda: 0.0)
    assert limit.acquire("2001:db8::1") == 0
    assert limit.acquire("2001:db8::2") == 1
    assert limit.acquire("2001:db8:0:1::1") == 0
