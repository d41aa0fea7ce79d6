"""Contract tests that run on every kind of source, in each of its variants."""

import hashlib

import pytest

from mmsearch.core import plugins
from mmsearch.core.errors import DecodeError
from mmsearch.core.sources import SourceFailure, SourceItem, load_items
from tests.fake_web import run_web_server
from tests.source_samples import CHANGING, SAMPLES, VARIANTS, caption, read_photos

pytestmark = pytest.mark.enable_socket


def test_source_samples_cover_every_plugin():
    assert sorted(SAMPLES) == plugins.names("sources")


@pytest.fixture(scope="module")
def server():
    with run_web_server() as server:
        yield server


@pytest.fixture(params=VARIANTS, ids=" ".join)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def contents(photos):
    return read_photos(photos)


@pytest.fixture
def sample(variant, tmp_path, contents, server):
    kind, name = variant
    return SAMPLES[kind][name](tmp_path, contents, server)


@pytest.fixture
def source(sample):
    source = sample.open()
    yield source
    source.close()


def list_items(source):
    return [item for part in source.parts() for item in source.items(part)]


def test_source_contents_equal_those_of_the_folder(source, sample, contents):
    digests = {}
    for loaded in load_items(source, list_items(source)):
        assert not isinstance(loaded, SourceFailure), loaded
        item, content = loaded
        digests[item.key] = hashlib.sha256(content).digest()
    assert digests == {
        key: hashlib.sha256(contents[name]).digest() for key, name in sample.names.items()
    }


def test_source_names_itself_and_yields_items_with_unique_keys(source, sample, variant):
    items = list_items(source)
    assert source.kind == variant[0]
    assert source.uri == sample.uri.encode()
    assert source.parallel_loads >= 1
    assert all(isinstance(item, SourceItem) for item in items)
    assert len({item.key for item in items}) == len(items) == len(sample.names)


def test_source_read_returns_what_load_returns(source, sample, contents):
    for item in list_items(source):
        assert source.read(item.key) == item.load() == contents[sample.names[item.key]]
        assert item.size in (None, len(contents[sample.names[item.key]]))
        assert source.exists(item.key) in (True, None)


def test_source_unknown_key_is_a_decode_error_and_does_not_exist(source, sample):
    for key in (sample.missing, b"", b"../" + sample.missing, b"/etc/passwd", b"a\0b", b"\xff/#"):
        with pytest.raises(DecodeError) as error:
            source.read(key)
        assert error.value.message
        assert source.exists(key) in (False, None)


def test_source_texts_are_the_captions_beside_the_pictures(source, sample):
    for item in list_items(source):
        texts = [text.text for text in item.texts]
        assert texts == ([caption(sample.names[item.key])] if sample.captions else [])


def test_source_second_pass_yields_the_same_parts_and_stamps(source, sample):
    def describe(source):
        parts = list(source.parts())
        items = [item for part in parts for item in source.items(part)]
        return parts, [(item.key, item.stamp, item.size, item.metadata) for item in items]

    first, second = describe(source), describe(source)
    assert first == second
    other = sample.open()
    try:
        assert describe(other) == first
    finally:
        other.close()
    parts, _ = first
    assert len({part.key for part in parts}) == len(parts)


@pytest.mark.parametrize("variant", CHANGING, ids=" ".join, indirect=True)
def test_source_changed_content_changes_the_stamps_of_part_and_item(source, sample):
    parts, items = list(source.parts()), list_items(source)
    sample.change()
    other = sample.open()
    try:
        changed_parts, changed_items = list(other.parts()), list_items(other)
        key = next(iter(sample.names))
        assert [part for part in changed_parts if not part.stamp or part not in parts]
        before = {item.key: item.stamp for item in items}
        after = {item.key: item.stamp for item in changed_items}
        assert before.keys() == after.keys()
        assert [name for name in before if before[name] != after[name]] == [key]
        assert other.read(key) == b"changed"
    finally:
        other.close()
