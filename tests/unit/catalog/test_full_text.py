"""Full-text search in the texts of pictures."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsearch.catalog import full_text
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


# --- what a match is worth ---


@pytest.fixture
def make_catalog(catalog, root):
    """A function that fills the catalog with one picture per tuple of texts, with ids from 1."""

    def fill(*texts, paths=None):
        catalog.set_identity(IDENTITY)
        names = paths or [b"%d.jpg" % n for n in range(len(texts))]
        contents = {name: f"{n:05}" for n, name in enumerate(names)}
        catalog.commit_shard(encoded(catalog, root, contents))
        indexed = [
            IndexedFile(seen(name), digest_of(f"{n:05}"), own, texts_key=b"key")
            for n, (name, own) in enumerate(zip(names, texts, strict=True))
        ]
        catalog.commit_shard(ShardCommit(root.id, 2, indexed=indexed))
        return catalog

    return fill


def caption(words):
    return (Text("caption", words),)


def folder(words):
    return (Text("filename", words, None, "filename"),)


def evidence(catalog, words):
    """Return the score and the evidence of each matching picture, by id."""
    with catalog.snapshot() as snapshot:
        found = snapshot.match([TextTerm(words)], 1000, None)
    rows = zip(found.ids.tolist(), found.scores.tolist(), found.evidence.tolist(), strict=True)
    return {image_id: (score, nats) for image_id, score, nats in rows}


OTHERS = [caption(f"thing{n}") for n in range(40)]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("hamburger", "Hamburg"),
        ("universe", "the university"),
        ("organ", "an organization"),
        ("news", "a new house"),
    ],
)
def test_match_word_with_same_stem_is_no_evidence(make_catalog, query, text):
    assert evidence(make_catalog(caption(text), *OTHERS), query).get(1, (0, 0))[1] == 0


@pytest.mark.parametrize(
    ("query", "text"), [("animals", "an animal"), ("dog", "two dogs"), ("run", "running")]
)
def test_match_inflection_counts_nearly_as_much_as_word(make_catalog, query, text):
    catalog = make_catalog(caption(text), caption(query), *OTHERS)
    found = evidence(catalog, query)
    assert 0.8 < found[1][0] < found[2][0] == 1
    assert 0 < found[1][1] < found[2][1]


def test_match_exact_word_leaves_out_same_stem_and_accents(make_catalog):
    catalog = make_catalog(
        caption("a hamburger"), folder("2019 Hamburg"), caption("con cắt"), caption("my cat")
    )
    assert set(evidence(catalog, "hamburger")) == {1}
    assert set(evidence(catalog, "cat")) == {4}
    assert set(evidence(catalog, "cắt")) == {3}


def test_match_folds_accents_if_no_word_is_exact(make_catalog):
    catalog = make_catalog(
        caption("Łódź"), caption("Zürich"), caption("Café"), caption("Straße"), *OTHERS
    )
    for query, image_id in [("lodz", 1), ("Zurich", 2), ("zuerich", 2), ("cafe", 3)]:
        found = evidence(catalog, query)
        assert set(found) == {image_id}
        assert found[image_id][0] == pytest.approx(0.4)
    assert evidence(catalog, "strasse")[4][0] == 1


@pytest.mark.parametrize("query", ["the", "photo of the", "Bild", "un", "it"])
def test_match_stop_words_alone_are_a_phrase_without_evidence(make_catalog, query):
    catalog = make_catalog(caption("photo of the house"), caption("Bild, un it"), *OTHERS)
    found = evidence(catalog, query)
    assert len(found) == 1
    assert all(nats == 0 for _, nats in found.values())


def test_match_stop_words_alone_find_title_only_in_order(make_catalog):
    catalog = make_catalog(
        caption("To be, or not to be"), caption("The Who"), caption("who is the man"), *OTHERS
    )
    assert set(evidence(catalog, "to be or not to be")) == {1}
    assert set(evidence(catalog, "the who")) == {2}


def test_match_evidence_falls_as_more_pictures_have_word(make_catalog):
    few = [caption("red boat") for _ in range(3)]
    many = [caption("red") for _ in range(30)]
    catalog = make_catalog(*few, *many, *OTHERS[:20])
    rare, common = evidence(catalog, "boat")[1][1], evidence(catalog, "red")[1][1]
    assert common == 0
    assert rare > 2


def test_match_name_of_folder_counts_less_than_that_of_file_and_caption(make_catalog):
    catalog = make_catalog(
        folder("Hamburg"),
        folder("Hamburg"),
        caption("Hamburg"),
        *OTHERS,
        paths=[b"Hamburg/IMG_1.jpg", b"Hamburg.jpg", *(b"%d.jpg" % n for n in range(41))],
    )
    found = evidence(catalog, "hamburg")
    assert 0 < 2 * found[1][1] < found[2][1] <= found[3][1]
    assert 2 * found[1][0] < found[2][0] <= found[3][0]


def test_match_exact_caption_is_found_among_thousands_of_same_stem(make_catalog, monkeypatch):
    monkeypatch.setattr(full_text, "MAX_MATCHED_PICTURES", 20)
    crowd = [caption(f"Hamburg x{n}") for n in range(60)]
    catalog = make_catalog(*crowd, caption("a long caption about one hamburger on a plate"))
    with catalog.snapshot() as snapshot:
        assert snapshot.match([TextTerm("hamburger")], 5, None).ids.tolist()[0] == 61


def test_match_frequency_counts_only_pictures_that_may_be_found(make_catalog):
    catalog = make_catalog(*[caption("web page") for _ in range(20)], *OTHERS)
    with catalog.snapshot() as snapshot:
        in_all = snapshot.match([TextTerm("web")], 10, None).evidence
        in_folder = snapshot.match([TextTerm("web")], 10, np.arange(1, 21)).evidence
    assert in_folder.max() == 0 < in_all.max()


def test_matched_texts_highlight_only_what_counted(make_catalog):
    catalog = make_catalog(
        caption("the cat and the cắt of the house"), caption("a hamburger in Hamburg")
    )
    with catalog.snapshot() as snapshot:
        for query, expected in [("the cat", ["cat"]), ("a hamburger", ["hamburger"])]:
            snapshot.match([TextTerm(query)], 10, None)
            (matched,) = filter(None, snapshot.matched_texts([1, 2], [TextTerm(query)]))
            assert [matched.text[a:b] for a, b in matched.spans] == expected
