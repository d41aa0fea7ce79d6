"""Files of derived texts come back as they were written, or are refused as damaged."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.boxes import LineBox
from mmsearch.core.derived import DerivedState, DerivedTexts
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.types import Text
from mmsearch.storage.derived import read_derived, recover_derived, write_derived
from mmsearch.storage.layout import IndexLayout, new_derived_name

TEXTS = st.builds(
    Text,
    kind=st.sampled_from(["tag", "ocr", "transcript"]),
    text=st.text(max_size=40),
    language=st.none() | st.just("de"),
    source=st.just("ocr"),
    made_by=st.just("x-1"),
    confidence=st.none() | st.floats(0, 1),
    start_ms=st.none() | st.integers(0, 10**9),
    end_ms=st.none() | st.integers(0, 10**9),
    boxes=st.lists(
        st.builds(
            LineBox,
            start=st.integers(0, 20),
            end=st.integers(20, 40),
            left=st.floats(0, 0.5),
            top=st.floats(0, 0.5),
            right=st.floats(0.5, 1),
            bottom=st.floats(0.5, 1),
        ),
        max_size=2,
    ).map(tuple),
)
CONTENTS = st.builds(
    DerivedTexts,
    digest=st.binary(min_size=32, max_size=32),
    enricher=st.just("ocr"),
    made_by=st.just("x-1"),
    texts=st.dictionaries(st.integers(0, 5000), st.lists(TEXTS, max_size=3).map(tuple), max_size=3),
    state=st.sampled_from(DerivedState),
    from_ms=st.integers(0, 10**9),
    upto_ms=st.none() | st.integers(1, 10**9),
    seconds=st.integers(0, 10_000).map(lambda number: number / 16),
    error=st.none() | st.text(max_size=20),
)


@pytest.fixture
def layout(tmp_path):
    layout = IndexLayout(tmp_path / "index")
    layout.create()
    return layout


@given(contents=st.lists(CONTENTS, max_size=4))
def test_contents_come_back_as_they_were_written(tmp_path_factory, contents):
    layout = IndexLayout(tmp_path_factory.mktemp("derived"))
    file = write_derived(layout, 7, contents)
    assert (file.number, file.rows) == (7, len(contents))
    assert list(read_derived(layout, file.file_ref)) == contents
    assert list(recover_derived(layout, file.file_ref.name)) == contents


def sample(words="dog"):
    text = Text("tag", words, None, "tags", "t-1", 0.5)
    return DerivedTexts(b"d" * 32, "tags", "t-1", {0: (text,)}, seconds=0.5)


def test_equal_numbers_get_files_of_different_names(layout):
    names = {write_derived(layout, 1, [sample()]).file_ref.name for _ in range(3)}
    assert len(names) == 3
    assert sorted(name for name, _ in layout.files()) == sorted(names)


@pytest.mark.parametrize("at", range(0, 100, 7))
def test_flipped_byte_is_refused_with_and_without_a_reference(layout, at):
    file = write_derived(layout, 1, [sample("dog " * 50)])
    path = layout.path(file.file_ref)
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        list(read_derived(layout, file.file_ref))
    # Without its sha256, gzip's own checksum guards the content; its header says nothing.
    try:
        recovered = list(recover_derived(layout, file.file_ref.name))
    except DamagedFileError:
        return
    assert recovered == [sample("dog " * 50)]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"not JSON",
        b'{"version": 2}',
        json.dumps({"version": 1, "content": "00", "enricher": "x"}).encode(),
        b"\xff\xfe",
    ],
)
def test_lines_that_are_no_derived_texts_are_refused(layout, line):
    path = layout.folder / new_derived_name(1)
    path.parent.mkdir()
    path.write_bytes(gzip.compress(line + b"\n"))
    with pytest.raises(DamagedFileError, match="holds no derived texts"):
        list(recover_derived(layout, f"derived/{path.name}"))


@pytest.mark.parametrize("member", ["kind", "text", "source", "made_by"])
def test_texts_with_values_of_another_type_are_refused(layout, member):
    file = write_derived(layout, 1, [sample()])
    line = json.loads(gzip.decompress(layout.path(file.file_ref).read_bytes()))
    line["texts"]["0"][0][member] = 7
    layout.path(file.file_ref).write_bytes(gzip.compress(json.dumps(line).encode()))
    with pytest.raises(DamagedFileError):
        list(recover_derived(layout, file.file_ref.name))
