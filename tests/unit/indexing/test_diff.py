from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.records import MAX_CLOCK_SKEW_NS, MTIME_GRANULARITY_NS, FileRecord, ScannedFile
from mmsearch.indexing.diff import ContentResolver, FileOutcome, FileStatus, compare

SECOND = 10**9
KNOWN = FileRecord(b"a.jpg", 10, SECOND, 100 * SECOND, b"digest", 1)
SEEN = ScannedFile(b"a.jpg", 10, SECOND)


def statuses(known, seen, **options):
    return list(compare(known, seen, **options).statuses)


def test_compare_same_size_and_mtime_is_unchanged():
    comparison = compare({b"a.jpg": KNOWN}, [SEEN])
    assert (list(comparison.statuses), comparison.missing) == ([FileStatus.UNCHANGED], {})


@pytest.mark.parametrize("change", [{"size": 11}, {"mtime_ns": 2 * SECOND}, {"mtime_ns": 0}])
def test_compare_other_size_or_mtime_needs_read(change):
    seen = replace(SEEN, **change)
    assert statuses({b"a.jpg": KNOWN}, [seen]) == [FileStatus.NEEDS_READ]


@pytest.mark.parametrize(
    ("known_ns", "seen_ns", "verdict"),
    [
        (5, 5, FileStatus.UNCHANGED),
        (5, 6, FileStatus.NEEDS_READ),
        (5, 4, FileStatus.NEEDS_READ),
        (0, 6, FileStatus.UNCHANGED),
        (5, 0, FileStatus.UNCHANGED),
    ],
)
def test_compare_other_change_time_needs_read_if_both_are_known(known_ns, seen_ns, verdict):
    known, seen = replace(KNOWN, ctime_ns=known_ns), replace(SEEN, ctime_ns=seen_ns)
    assert statuses({b"a.jpg": known}, [seen]) == [verdict]


def test_compare_to_verify_reads_every_file():
    failed = replace(KNOWN, path=b"b.jpg", content_id=None, error="bad")
    seen = [SEEN, replace(SEEN, path=b"b.jpg")]
    known = {b"a.jpg": KNOWN, b"b.jpg": failed}
    assert statuses(known, seen, verify=True) == [FileStatus.NEEDS_READ] * 2


def test_compare_file_checked_within_mtime_granularity_needs_read():
    fresh = replace(KNOWN, checked_ns=KNOWN.mtime_ns + MTIME_GRANULARITY_NS)
    assert statuses({b"a.jpg": fresh}, [SEEN]) == [FileStatus.NEEDS_READ]


@pytest.mark.parametrize(
    ("ahead_ns", "verdict"),
    [
        (0, FileStatus.NEEDS_READ),
        (3600 * SECOND, FileStatus.NEEDS_READ),
        (MAX_CLOCK_SKEW_NS, FileStatus.NEEDS_READ),
        (MAX_CLOCK_SKEW_NS + 1, FileStatus.UNCHANGED),
        (2**62, FileStatus.UNCHANGED),
    ],
)
def test_compare_future_mtime_needs_read_only_within_clock_skew(ahead_ns, verdict):
    mtime_ns = KNOWN.checked_ns + ahead_ns
    seen = replace(SEEN, mtime_ns=mtime_ns)
    assert statuses({b"a.jpg": replace(KNOWN, mtime_ns=mtime_ns)}, [seen]) == [verdict]


def test_compare_failed_file_is_read_again_only_on_retry_or_without_digest():
    failed = replace(KNOWN, content_id=None, error="bad")
    assert statuses({b"a.jpg": failed}, [SEEN]) == [FileStatus.STILL_FAILED]
    assert statuses({b"a.jpg": failed}, [SEEN], retry_failed=True) == [FileStatus.NEEDS_READ]
    unread = replace(failed, digest=b"")
    assert statuses({b"a.jpg": unread}, [SEEN]) == [FileStatus.NEEDS_READ]


def test_compare_other_texts_key_marks_texts_changed_except_for_failed_file():
    assert statuses({b"a.jpg": KNOWN}, [SEEN], texts_key=lambda file: b"x") == [
        FileStatus.TEXTS_CHANGED
    ]
    failed = replace(KNOWN, content_id=None, error="bad")
    assert statuses({b"a.jpg": failed}, [SEEN], texts_key=lambda file: b"x") == [
        FileStatus.STILL_FAILED
    ]


@given(st.sets(st.binary(min_size=1, max_size=2)), st.sets(st.binary(min_size=1, max_size=2)))
def test_compare_assigns_each_file_to_one_status(known_paths, seen_paths):
    known = {path: replace(KNOWN, path=path) for path in known_paths}
    seen = [replace(SEEN, path=path) for path in sorted(seen_paths)]
    comparison = compare(known, iter(seen))
    assert comparison.count(FileStatus.UNCHANGED) == len(known_paths & seen_paths)
    needs_read = comparison.select(FileStatus.NEEDS_READ, iter(seen))
    assert {file.path for file in needs_read} == seen_paths - known_paths
    assert set(comparison.missing) == known_paths - seen_paths


def resolver(known=(), gone=()):
    return ContentResolver({f.path: f for f in known}, {f.path: f for f in gone})


@pytest.mark.parametrize(
    ("known", "gone", "has_vector", "fate"),
    [
        ([], [], False, FileOutcome.ADDED),
        ([], [], True, FileOutcome.COPIED),
        ([replace(KNOWN, digest=b"old")], [], False, FileOutcome.CHANGED),
        ([replace(KNOWN, digest=b"old")], [], True, FileOutcome.CHANGED),
        ([KNOWN], [], True, FileOutcome.UNCHANGED),
        ([replace(KNOWN, content_id=None, error="bad")], [], False, FileOutcome.STILL_FAILED),
        ([], [replace(KNOWN, path=b"was.jpg")], True, FileOutcome.MOVED),
    ],
)
def test_content_resolver_returns_outcome_by_digest_and_known_files(known, gone, has_vector, fate):
    assert resolver(known, gone).outcome(SEEN, b"digest", has_vector=has_vector) is fate


def test_content_resolver_missing_path_explains_only_one_move():
    state = resolver(gone=[replace(KNOWN, path=b"was.jpg")])
    assert state.outcome(SEEN, b"digest", has_vector=True) is FileOutcome.MOVED
    assert state.pop_moved(b"digest") == b"was.jpg"
    assert state.gone == {}
    other = replace(SEEN, path=b"b.jpg")
    assert state.outcome(other, b"digest", has_vector=True) is FileOutcome.COPIED
