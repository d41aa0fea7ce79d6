from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.records import CLOCK_DOUBT_NS, CLOCK_SKEW_NS, KnownFile, SeenFile
from mmsearch.indexing.diff import Fate, Settling, Verdict, compare

SECOND = 10**9
KNOWN = KnownFile(b"a.jpg", 10, SECOND, 100 * SECOND, b"digest", 1)
SEEN = SeenFile(b"a.jpg", 10, SECOND)


def verdicts(known, seen, **options):
    return list(compare(known, seen, **options).verdicts)


def test_same_size_and_time_is_unchanged():
    comparison = compare({b"a.jpg": KNOWN}, [SEEN])
    assert (list(comparison.verdicts), comparison.missing) == ([Verdict.UNCHANGED], {})


@pytest.mark.parametrize("change", [{"size": 11}, {"mtime_ns": 2 * SECOND}, {"mtime_ns": 0}])
def test_another_size_or_time_is_doubtful(change):
    seen = replace(SEEN, **change)
    assert verdicts({b"a.jpg": KNOWN}, [seen]) == [Verdict.DOUBTFUL]


def test_a_file_that_was_fresh_when_it_was_read_is_doubtful():
    fresh = replace(KNOWN, checked_ns=KNOWN.mtime_ns + CLOCK_DOUBT_NS)
    assert verdicts({b"a.jpg": fresh}, [SEEN]) == [Verdict.DOUBTFUL]


@pytest.mark.parametrize(
    ("ahead_ns", "verdict"),
    [
        (0, Verdict.DOUBTFUL),
        (3600 * SECOND, Verdict.DOUBTFUL),
        (CLOCK_SKEW_NS, Verdict.DOUBTFUL),
        (CLOCK_SKEW_NS + 1, Verdict.UNCHANGED),
        (2**62, Verdict.UNCHANGED),
    ],
)
def test_a_date_in_the_future_proves_something_unless_a_clock_may_have_set_it(ahead_ns, verdict):
    mtime_ns = KNOWN.checked_ns + ahead_ns
    seen = replace(SEEN, mtime_ns=mtime_ns)
    assert verdicts({b"a.jpg": replace(KNOWN, mtime_ns=mtime_ns)}, [seen]) == [verdict]


def test_a_failed_file_waits_for_a_change_or_for_being_asked():
    failed = replace(KNOWN, image_id=None, error="bad")
    assert verdicts({b"a.jpg": failed}, [SEEN]) == [Verdict.STILL_FAILED]
    assert verdicts({b"a.jpg": failed}, [SEEN], retry_failed=True) == [Verdict.DOUBTFUL]
    unread = replace(failed, digest=b"")
    assert verdicts({b"a.jpg": unread}, [SEEN]) == [Verdict.DOUBTFUL]


def test_a_file_whose_texts_may_have_changed_is_told_again():
    assert verdicts({b"a.jpg": KNOWN}, [SEEN], texts_key=lambda file: b"x") == [Verdict.RETOLD]
    failed = replace(KNOWN, image_id=None, error="bad")
    assert verdicts({b"a.jpg": failed}, [SEEN], texts_key=lambda file: b"x") == [
        Verdict.STILL_FAILED
    ]


@given(st.sets(st.binary(min_size=1, max_size=2)), st.sets(st.binary(min_size=1, max_size=2)))
def test_every_file_is_in_exactly_one_heap(known_paths, seen_paths):
    known = {path: replace(KNOWN, path=path) for path in known_paths}
    seen = [replace(SEEN, path=path) for path in sorted(seen_paths)]
    comparison = compare(known, iter(seen))
    assert comparison.count(Verdict.UNCHANGED) == len(known_paths & seen_paths)
    doubtful = comparison.those(Verdict.DOUBTFUL, iter(seen))
    assert {file.path for file in doubtful} == seen_paths - known_paths
    assert set(comparison.missing) == known_paths - seen_paths


def settling(known=(), gone=()):
    return Settling({f.path: f for f in known}, {f.path: f for f in gone})


@pytest.mark.parametrize(
    ("known", "gone", "has_vector", "fate"),
    [
        ([], [], False, Fate.ADDED),
        ([], [], True, Fate.COPIED),
        ([replace(KNOWN, digest=b"old")], [], False, Fate.CHANGED),
        ([replace(KNOWN, digest=b"old")], [], True, Fate.CHANGED),
        ([KNOWN], [], True, Fate.UNCHANGED),
        ([replace(KNOWN, image_id=None, error="bad")], [], False, Fate.STILL_FAILED),
        ([], [replace(KNOWN, path=b"was.jpg")], True, Fate.MOVED),
    ],
)
def test_content_decides_what_a_file_is(known, gone, has_vector, fate):
    assert settling(known, gone).fate(SEEN, b"digest", has_vector=has_vector) is fate


def test_one_vanished_path_explains_one_move():
    state = settling(gone=[replace(KNOWN, path=b"was.jpg")])
    assert state.fate(SEEN, b"digest", has_vector=True) is Fate.MOVED
    assert state.take_moved(b"digest") == b"was.jpg"
    assert state.gone == {}
    other = replace(SEEN, path=b"b.jpg")
    assert state.fate(other, b"digest", has_vector=True) is Fate.COPIED
