"""Laws of keys: sets of them, patterns, names of members, values of rows."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import SourceError
from mmsearch.sources._keys import SeenKeys, expand_braces, relative_names
from mmsearch.sources._members import normalize_name
from mmsearch.sources._rows import to_metadata


@given(st.lists(st.binary(max_size=3), max_size=300))
def test_seen_keys_is_a_set(keys):
    seen, oracle = SeenKeys(), set()
    for key in keys:
        assert seen.add(key) is (key not in oracle)
        oracle.add(key)


def test_seen_keys_of_many_keys_takes_at_most_32_bytes_each():
    seen = SeenKeys()
    for number in range(30_000):
        assert seen.add(b"%d" % number)
    assert not any(seen.add(b"%d" % number) for number in range(30_000))
    assert len(seen._slots) * seen._slots.itemsize <= 32 * 30_000


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{008..011}.tar", ["008.tar", "009.tar", "010.tar", "011.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{10..12}", ["10", "11", "12"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{a,}b", ["ab", "b"]),
        ("{a}", ["{a}"]),
        ("{0..", ["{0.."]),
        ("", [""]),
    ],
)
def test_expand_braces_expands_as_a_shell_does(pattern, names):
    assert expand_braces(pattern.encode()) == [name.encode() for name in names]


@given(st.integers(0, 2000), st.integers(0, 300), st.integers(1, 7))
def test_expand_braces_of_equal_widths_counts_in_order(first, count, width):
    last = first + count
    pattern = f"x{{{first:0{width}d}..{last:0{width}d}}}y".encode()
    names = expand_braces(pattern)
    assert [int(name[1:-1]) for name in names] == list(range(first, last + 1))
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "pattern", ["{0..9999999}", "{0..999}{0..999}{0..999}", "{0..99999999999999999999}"]
)
def test_expand_braces_of_too_many_names_is_a_source_error(pattern):
    with pytest.raises(SourceError, match="stands for more than"):
        expand_braces(pattern.encode())


names = st.lists(st.sampled_from([b"a", b"b", b"c.tar", b"d e"]), min_size=1, max_size=4)


@given(st.lists(names.map(b"/".join), min_size=1, max_size=6, unique=True))
def test_relative_names_are_unique_ends_of_the_paths(paths):
    relative = relative_names(paths)
    assert len(set(relative)) == len(paths)
    if len(paths) > 1:
        assert all(name and path.endswith(name) for name, path in zip(relative, paths, strict=True))


pieces = st.sampled_from([b"..", b".", b"", b"a", b"\\", b"C:", b"\0", b"\xff", b"...", b".a"])


@given(st.lists(pieces, max_size=6).map(b"/".join))
def test_normalize_name_that_is_not_refused_stays_in_its_folder(name):
    normalized, reason = normalize_name(name)
    if reason is None:
        assert not {b"", b".", b".."} & set(normalized.split(b"/"))
        assert not normalized.startswith((b"/", b"\\"))
        assert b"\0" not in normalized
        assert normalize_name(normalized) == (normalized, None)


@given(st.integers(-(10**17), 10**17))
def test_to_metadata_of_an_integer_in_text_is_the_integer(number):
    value = to_metadata(str(number))
    assert value == number
    assert isinstance(value, int)


@given(st.one_of(st.text(max_size=8), st.from_regex(r"-?[0-9.eE+]{1,8}", fullmatch=True)))
def test_to_metadata_of_text_is_itself_or_a_finite_number_as_json_has_it(text):
    value = to_metadata(text)
    json.dumps(value, allow_nan=False)
    if not isinstance(value, str):
        assert math.isclose(value, float(text))
        assert not text.lstrip("-").startswith("0") or text.lstrip("-")[1:2] in ("", ".", "e", "E")
    else:
        assert value == text
