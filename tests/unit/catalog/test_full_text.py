"""Full-text search in the texts of pictures."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsearch.core.query import TextTerm
from mmsearch.core.records import IndexedFile, ShardCommit
from mmsearch.core.types import Text
from tests.property_budget import examples
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, seen

TEXTS = [
    (Text("caption", "A brown dog runs on the beach"),),
    (Text("caption", "Boats in a café"), Text("keywords", "sea; harbour")),
    (Text("title", "東京の夜景と桜"),),
    (Text("caption", "A dog sleeps"), Text("filename", "beach house", None, "filename")),
    (),
]


@pytest.fixture
def catalog_with_texts(catalog, root):
    """The catalog with one picture per entry of TEXTS, with ids from 1."""
    catalog.set_identity(IDENTITY)
    names = {b"%d.jpg" % n: chr(ord("a") + n) for n in range(len(TEXTS))}
    catalog.commit_shard(encoded(catalog, root, names))
    indexed = [
        IndexedFile(seen(b"%d.jpg" % n), digest_of(chr(ord("a") + n)), own, texts_key=b"key")
        for n, own in enumerate(TEXTS)
    ]
    catalog.commit_shard(ShardCommit(root.id, 2, indexed=indexed))
    return catalog


def search(catalog, *terms, limit=10, allowed=None):
    with catalog.snapshot() as snapshot:
        query_terms = [term if isinstance(term, TextTerm) else TextTerm(term) for term in terms]
        matches = snapshot.match(query_terms, limit, allowed)
    assert (np.diff(matches.scores) <= 0).all()
    assert ((matches.scores > 0) & (matches.scores <= 1)).all()
    return matches.ids.tolist()


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("dog", {1, 4}),
        ("DOGS", {1, 4}),
        ("running", {1}),
        ("cafe", {2}),
        ("Café", {2}),
        ("harbours", {2}),
        ("夜景", {3}),
        ("東京の夜景", {3}),
        ("house", {4}),
        ("zebra", set()),
        ("", set()),
        ('"; DROP TABLE images; --', set()),
        ("NEAR(dog beach) OR *", {1, 4}),
    ],
)
def test_text_match_ignores_case_accents_endings_and_query_syntax(catalog_with_texts, words, ids):
    assert set(search(catalog_with_texts, words)) == ids


def test_text_match_picture_with_more_words_ranks_first(catalog_with_texts):
    assert search(catalog_with_texts, "dog beach")[:1] in ([1], [4])
    assert search(catalog_with_texts, "brown dog on the beach")[0] == 1


def test_text_match_returns_only_allowed_ids_up_to_limit(catalog_with_texts):
    assert search(catalog_with_texts, "dog", allowed=np.array([4], dtype=np.int64)) == [4]
    assert search(catalog_with_texts, "dog", allowed=np.empty(0, dtype=np.int64)) == []
    assert len(search(catalog_with_texts, "dog", limit=1)) == 1


def test_text_match_negative_term_lowers_rank_of_text(catalog_with_texts):
    assert search(catalog_with_texts, "dog", TextTerm("sleeps", -1.0))[0] == 1


def test_matched_texts_returns_text_with_spans_of_matching_words(catalog_with_texts):
    with catalog_with_texts.snapshot() as snapshot:
        first, second, none = snapshot.matched_texts([4, 2, 5], [TextTerm("dogs sea")])
    assert [first.text[a:b] for a, b in first.spans] == ["dog"]
    assert [second.text[a:b] for a, b in second.spans] == ["sea"]
    assert none is None


def test_text_match_word_of_removed_file_returns_no_picture(catalog_with_texts, root):
    catalog_with_texts.commit_shard(ShardCommit(root.id, 3, removed=[b"0.jpg"]))
    assert search(catalog_with_texts, "brown") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(50))
@given(st.text(max_size=30))
def test_text_match_any_query_text_raises_no_error(catalog_with_texts, words):
    search(catalog_with_texts, words)
