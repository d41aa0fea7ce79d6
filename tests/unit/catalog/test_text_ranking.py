"""Full-text ranking of films, documents and texts by models: weights, frequencies, neighbours."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from mmsearch.catalog import full_text
from mmsearch.catalog.text_weights import (
    CODE_EVIDENCE,
    KIND_CODE,
    KIND_EVIDENCE,
    NUM_CODES,
    OTHER_EVIDENCE,
    SURE_CONFIDENCE,
)
from mmsearch.core.query import TextTerm
from mmsearch.core.records import EncodedPicture, ShardCommit
from mmsearch.core.types import ItemLocator, Picture, Text
from tests.unit.catalog.samples import IDENTITY, digest_of, indexed, segment

OTHERS = 40


@pytest.fixture
def make_catalog(catalog, root):
    """Return a function that commits contents, each a list of the texts of its items.

    Others without texts follow, so that words are rare.
    """
    catalog.set_identity(IDENTITY)

    def make(*contents, kind="video"):
        pictures = []
        for number, items in enumerate((*contents, *[[()]] * OTHERS)):
            for part, texts in enumerate(items):
                times = (part * 1000, part * 1000 + 999, None)
                places = {"video": times, "document": (None, None, part + 1)}
                locator = ItemLocator(part, *places[kind]) if len(items) > 1 else ItemLocator()
                facts = Picture(640, 480, "JPEG", texts=tuple(texts))
                item = EncodedPicture(
                    len(pictures) + 1, digest_of(str(number)), facts, b"", False, locator, kind
                )
                pictures.append(item)
        files = {b"%d.mp4" % n: str(n) for n in range(len(contents) + OTHERS)}
        rows = segment(1, len(pictures))
        found = indexed(root, files).indexed
        catalog.commit_shard(ShardCommit(root.id, 1, rows, pictures, found))
        return catalog

    return make


def line(words, kind="subtitle", source="document", **values):
    return (Text(kind, words, "en", source, **values),)


def match(catalog, words, allowed=None):
    """Return score and evidence by id."""
    with catalog.snapshot() as snapshot:
        found = snapshot.match([TextTerm(words)], 100, allowed)
    values = zip(found.scores.tolist(), found.evidence.tolist(), strict=True)
    return dict(zip(found.ids.tolist(), values, strict=True))


# --- weights ---


@pytest.mark.parametrize(
    ("kind", "source", "confidence", "nats"),
    [
        ("title", "metadata", None, KIND_EVIDENCE["title"]),
        ("caption", "sidecar", None, KIND_EVIDENCE["caption"]),
        ("caption", "captions", None, KIND_EVIDENCE["machine caption"]),
        ("ocr", "ocr", 0.99, KIND_EVIDENCE["ocr"]),
        ("ocr", "ocr", SURE_CONFIDENCE, KIND_EVIDENCE["ocr"]),
        ("ocr", "ocr", SURE_CONFIDENCE / 2, KIND_EVIDENCE["ocr"] / 2),
        ("tag", "tags", SURE_CONFIDENCE / 4, KIND_EVIDENCE["tag"] / 4),
        ("poem", "table", None, OTHER_EVIDENCE),
    ],
)
def test_evidence_of_text_depends_on_kind_maker_and_confidence(
    make_catalog, kind, source, confidence, nats
):
    made_by = "model" if source in ("captions", "ocr", "tags") else None
    text = line("lighthouse", kind, source, confidence=confidence, made_by=made_by)
    ((_, evidence),) = match(make_catalog([text]), "lighthouse").values()
    # The word is rare: its surprise counts fully.
    assert evidence == pytest.approx(nats, rel=1e-3)


def test_evidence_of_models_never_exceeds_that_of_people():
    assert KIND_EVIDENCE["tag"] < KIND_EVIDENCE["machine caption"] < KIND_EVIDENCE["caption"]
    people = max(KIND_EVIDENCE[kind] for kind in ("title", "keywords", "people", "place"))
    assert max(KIND_EVIDENCE.values()) == people


def test_codes_of_kinds_give_their_evidence():
    assert len(CODE_EVIDENCE) <= NUM_CODES
    known = [(kind, "table", kind) for kind in KIND_EVIDENCE] + [
        ("caption", "captions", "machine caption"),
        ("poem", "table", None),
    ]
    for kind, source, name in known:
        statement = f"SELECT {KIND_CODE} FROM (SELECT ? AS kind, ? AS source) AS texts"  # noqa: S608
        with closing(sqlite3.connect(":memory:")) as db:
            ((code,),) = db.execute(statement, [kind, source])
        assert CODE_EVIDENCE[code] == KIND_EVIDENCE.get(name, OTHER_EVIDENCE)


@pytest.mark.parametrize(
    ("source", "made_by", "has_text", "has_texts"),
    [
        ("sidecar", None, True, True),
        ("metadata", None, True, True),
        ("table", None, True, True),
        ("document", None, True, True),
        ("filename", None, False, False),
        ("tags", "model", False, False),
        ("ocr", "model", False, True),
        ("speech", "model", False, True),
        ("captions", "model", False, True),
    ],
)
def test_texts_of_models_are_searched_but_no_texts_of_the_picture(
    make_catalog, source, made_by, has_text, has_texts
):
    catalog = make_catalog([line("lighthouse", "caption", source, made_by=made_by)])
    with catalog.snapshot() as snapshot:
        assert snapshot.has_text_mask(np.array([1, 2])).tolist() == [has_text, False]
        assert snapshot.has_texts is has_texts
        assert snapshot.match([TextTerm("lighthouse")], 10, None).ids.tolist() == [1]


# --- frequencies ---


def test_frequency_of_word_counts_films_not_lines(make_catalog):
    lines = [line("the lighthouse again") for _ in range(30)]
    many = match(make_catalog(lines, [line("an old harbour")]), "lighthouse harbour")
    lighthouse, harbour = many[1][0], many[31][0]
    assert lighthouse == pytest.approx(harbour, rel=1e-6)


def test_film_of_many_lines_leaves_room_for_others(make_catalog):
    lines = [line("lighthouse") for _ in range(300)]
    found = match(make_catalog(lines, [line("the lighthouse of a picture")]), "lighthouse")
    assert 301 in found
    assert len(found) == full_text.MAX_MOMENTS + 1


# --- neighbours ---


def test_words_of_neighbouring_moments_count_at_a_lower_weight(make_catalog):
    film = [line("a storm"), line("destroyed"), (), line("the lighthouse"), ()]
    catalog = make_catalog(film, [line("storm destroyed lighthouse")])
    found = match(catalog, "storm destroyed lighthouse")
    weight = full_text.NEIGHBOUR_WEIGHT
    assert 0 < weight < 1
    whole = found[6][0]
    assert whole == pytest.approx(1.0)
    assert found[1][0] < found[6][0]
    # Two of three words: one of its own, one of its neighbour, both about equally rare.
    assert found[1][0] == pytest.approx((1 + weight) / 3, rel=0.1)
    assert found[3][0] == pytest.approx(2 * weight / 3, rel=0.1)
    assert found[5][0] == pytest.approx(weight / 3, rel=0.1)


def test_words_two_moments_away_do_not_count(make_catalog):
    found = match(make_catalog([line("storm"), (), (), line("lighthouse")]), "storm lighthouse")
    assert found[1][0] == found[4][0]
    assert found[1][0] == pytest.approx(0.5, rel=0.05)


def test_pages_beside_each_other_do_not_share_words(make_catalog):
    pages = [line("storm", "page"), line("lighthouse", "page"), ()]
    found = match(make_catalog(pages, kind="document"), "storm lighthouse")
    assert found.keys() == {1, 2}
    assert found[1][0] == pytest.approx(0.5, rel=0.05)


def test_films_beside_each_other_do_not_share_words(make_catalog):
    found = match(make_catalog([line("storm")], [line("lighthouse")]), "storm lighthouse")
    assert [score for score, _ in found.values()] == pytest.approx([0.5, 0.5], rel=0.05)


def test_neighbours_that_may_not_be_found_are_left_out(make_catalog):
    catalog = make_catalog([(), line("storm"), ()])
    assert match(catalog, "storm", np.array([2, 3])).keys() == {2, 3}
    assert match(catalog, "storm").keys() == {1, 2, 3}


def test_moment_without_own_match_shows_line_of_its_neighbour(make_catalog):
    storm = line("the storm", start_ms=1200, end_ms=1900)
    catalog = make_catalog([line("calm sea"), storm, (), ()])
    with catalog.snapshot() as snapshot:
        terms = [TextTerm("storm")]
        assert snapshot.match(terms, 10, None).ids.tolist()[0] == 2
        texts = snapshot.matched_texts([1, 2, 3, 4], terms)
    assert [text and (text.text, text.start_ms) for text in texts] == [
        *[("the storm", 1200)] * 3,
        None,
    ]
