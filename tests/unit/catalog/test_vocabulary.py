"""Words of the texts of an index."""

import pytest

from mmsearch.core.records import IndexedFile, ShardCommit
from mmsearch.core.types import Text
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, seen

TEXTS = (
    Text("caption", "Two elephants drink; an elegant zebra"),
    Text("keywords", "Café; Siobhan O'Neill"),
    Text("filename", "holyday 2019", None, "filename"),
)


@pytest.fixture
def snapshot(catalog, root):
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {b"1.jpg": "a"}))
    indexed = [IndexedFile(seen(b"1.jpg"), digest_of("a"), TEXTS, texts_key=b"key")]
    catalog.commit_shard(ShardCommit(root.id, 2, indexed=indexed))
    with catalog.snapshot() as snapshot:
        yield snapshot


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("elephant", True), ("elephants", True), ("zebras", True), ("cafe", True), ("café", True),
        ("siobhan", True), ("o'neill", True), ("holyday", True), ("elefant", False),
        ('"', False), ("lion", False),
    ],
)  # fmt: skip
def test_has_word(snapshot, word, expected):
    assert snapshot.has_word(word) is expected


@pytest.mark.parametrize(
    ("word", "closest"),
    [
        ("elefants", "elephants"),
        ("elegnat", "elegant"),
        ("zeebra", "zebra"),
        ("siobahn", "siobhan"),
        ("iSobhan".lower(), "siobhan"),
        ("holiday", "holyday"),
        ("neil", "neill"),
        ("gnus", None),
        ("lion", None),
        ("zeb", None),
        ("zebra1", None),
        ("', DROP", None),
    ],
)
def test_closest_word(snapshot, word, closest):
    assert snapshot.closest_word(word) == closest


def test_index_without_texts_has_no_words(catalog):
    with catalog.snapshot() as snapshot:
        assert not snapshot.has_word("elephant")
        assert snapshot.closest_word("elefant") is None
