"""A catalog in PostgreSQL answers every question as one in SQLite does."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmsearch.catalog.folding import index_text
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_reader
from mmsearch.core import language
from mmsearch.core.duplicate_groups import DuplicateKind
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.facets import FACET_FIELDS
from mmsearch.core.filter_parser import parse_condition
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters, GeoCircle
from mmsearch.core.query import (
    AllOf,
    Arithmetic,
    Compare,
    Contains,
    FieldName,
    IsMissing,
    Not,
    OneOf,
    TextTerm,
)
from mmsearch.core.suggestions import SuggestionKind
from tests.cluster import services
from tests.cluster.made_library import CAPTIONS, FIRST_RECORD, fill

pytestmark = services.MARKS

TIME_ZONE = "Europe/Berlin"
ENGLISH_WORDS = Path(language.__file__).with_name("language_data") / "english.txt"
IDS = np.arange(1, 380)
SOME = np.array([300, 5, 41, 40, 360, 365, 12, 12, 370])
ALL_KINDS = frozenset(SuggestionKind)

OTHER_STEMS = frozenset(
    [
        "as",
        "bs",
        "cs",
        "ds",
        "gs",
        "hs",
        "is",
        "ks",
        "ls",
        "ms",
        "ns",
        "ps",
        "rs",
        "ts",
        "us",
        "uy",
        "vs",
        "ws",
    ]
)
"""English words whose stem is another one: FTS5 leaves words of two letters as they are."""


@pytest.fixture(scope="module")
def paths(start_service, tmp_path_factory):
    """The same library in both databases: the path of one, the place of the other."""
    from mmsearch.catalog.postgres import parse_url
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    said = start_service("postgres")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", said["POSTGRES_PASSWORD"])
        patch.setenv("TZ", TIME_ZONE)
        time.tzset()
        path = tmp_path_factory.mktemp("library") / "catalog.sqlite"
        place = parse_url(f"{said['POSTGRES_URL']}?schema=library", path)
        for catalog in (open_writer(path, create=True), open_postgres_writer(place, create=True)):
            fill(catalog)
            assert list(catalog.find_problems()) == []
            catalog.close()
        yield path, place
    time.tzset()


@pytest.fixture(scope="module")
def readers(paths):
    from mmsearch.catalog.postgres_maintenance import open_postgres_reader

    path, place = paths
    both = open_reader(path), open_postgres_reader(place)
    yield both
    for reader in both:
        reader.close()


@pytest.fixture
def same(readers):
    """Function that compares what a function of a snapshot returns for both, and returns it."""

    def compare(function):
        answers = []
        for reader in readers:
            with reader.snapshot() as snapshot:
                answers.append(plain(function(snapshot)))
        assert answers[1] == answers[0]
        return answers[0]

    return compare


def plain(value):
    """Return a value that can be compared: arrays as their type and a list."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "evidence") and hasattr(value, "scores"):
        return plain(value.ids), plain(value.scores), plain(value.evidence)
    return value


def key(number):
    return b"key-%d" % (FIRST_RECORD + number)


READERS = {
    "identity": lambda r: r.identity(),
    "segments": lambda r: r.segments(),
    "building": lambda r: (r.list_building_segments(), r.building_key()),
    "stale_rows": lambda r: plain(r.stale_rows()),
    "referenced_files": lambda r: r.referenced_files(),
    "next_free_ids": lambda r: r.next_free_ids(),
    "live_pictures": lambda r: r.list_live_pictures(0, 500),
    "page_of_live_pictures": lambda r: r.list_live_pictures(100, 20),
    "segment_pictures": lambda r: r.list_segment_pictures(1),
    "segment_ids": lambda r: plain(r.segment_item_ids(1)),
    "sources": lambda r: r.sources(),
    "summaries": lambda r: [replace(one, last_run=None) for one in r.summarize_sources()],
    "elsewhere": lambda r: r.count_elsewhere(1),
    "part_keys": lambda r: sorted(r.list_part_keys(3)),
    "assets_of_a_part": lambda r: r.list_assets(3, b"part 1"),
    "load_assets": lambda r: r.load_assets(3, [key(0), key(1), b"none"]),
    "item_assets": lambda r: r.list_item_assets(list(range(300, 340))),
    "find_assets": lambda r: r.find_assets(3, [key(3), b"none"]),
    "roots": lambda r: r.roots(),
    "files": lambda r: r.list_files_under(1, b""),
    "files_below": lambda r: r.list_files_under(1, b"trips"),
    "files_without_folder": lambda r: r.list_files_under(1, b"", [b"trips"]),
    "files_in": lambda r: (r.list_files_in(1, b""), r.list_files_in(1, b"trips")),
    "captioned": lambda r: r.list_captioned_files(1, b"", b"/table.csv"),
    "counts": lambda r: (r.count_files_under(1, b"trips"), r.file_count()),
    "failures": lambda r: (r.failures(), r.damaged_files()),
    "folder_states": lambda r: r.load_folder_states(2, b""),
    "skipped": lambda r: (r.list_skipped_under(1, b""), r.list_skip_reasons(1, b"a")),
    "skipped_files": lambda r: (r.load_skipped_counts(1, b""), r.skipped_files()),
    "last_run": lambda r: replace(r.last_run(), started_at="", finished_at=""),
    "unfinished": lambda r: r.load_unfinished_roots(),
    "derived_files": lambda r: (r.derived.files(), r.derived.next_number()),
    "derived_texts": lambda r: r.derived.list_texts(0, 500),
    "derived_page": lambda r: r.derived.list_texts(10, 20, only_live=True),
    "derived_summary": lambda r: r.derived.summarize(),
    "derived_counts": lambda r: [
        r.derived.count("tags", made_by, ["image", "video"]) for made_by in ("model 1", None)
    ],
    "derived_contents": lambda r: r.derived.count_contents(["image", "sound"]),
    "pending": lambda r: r.derived.list_pending("tags", "model 1", ["image"], 0, 30),
    "pending_with_text": lambda r: r.derived.list_pending(
        "ocr", "model 1", ["image", "document"], 20, 30, likely_text=True, retry_failed=True
    ),
    "duplicates": lambda r: (r.duplicates.state(), r.duplicates.rows()),
    "last_content": lambda r: r.duplicates.last_content(),
    "looks": lambda r: [plain(each) for each in vars(r.duplicates.load_looks()).values()],
    "unhashed": lambda r: [r.duplicates.count_unhashed(source) for source in (None, 1, 3)],
    "list_unhashed": lambda r: r.duplicates.list_unhashed(1, 0, 20),
    "groups": lambda r: r.duplicates.list_groups(None, 0, 3),
    "exact_groups": lambda r: r.duplicates.list_groups(DuplicateKind.EXACT, 4, 30),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_answer_the_same(readers, name):
    first, second = map(READERS[name], readers)
    assert second == first


SNAPSHOTS = {
    "generation": lambda s: (s.generation, s.identity, s.calibration),
    "counts": lambda s: (s.items, s.items_with_pixels, s.pictures),
    "without_pixels": lambda s: s.ids_without_pixels,
    "flags": lambda s: (s.has_moments, s.has_stacks, s.has_texts, s.has_dates()),
    "built": lambda s: (s.built, s.unindexed_segments),
    "deleted": lambda s: s.deleted_ids,
    "contents": lambda s: s.content_ids(SOME),
    "count_contents": lambda s: s.count_contents(IDS),
    "siblings": lambda s: s.sibling_ids(SOME),
    "stack_ids": lambda s: s.stack_ids(SOME),
    "stack_items": lambda s: s.stack_item_ids(SOME),
    "stacks": lambda s: s.stacks([41, 60, 5], None, 3),
    "stacks_that_pass": lambda s: s.stacks([41, 40], IDS[:50], 1),
    "sample": lambda s: s.sample_ids(20),
    "records": lambda s: s.records(IDS.tolist()),
    "repeated_records": lambda s: s.records(SOME.tolist()),
    "stale_rows": lambda s: s.stale_rows(),
    "moved": lambda s: s.moved_ids(2),
    "segments": lambda s: s.find_segments(SOME.tolist()),
    "items_of_files": lambda s: [s.find_item(b"/photos/" + n) for n in (b"film.mp4", b"none")],
    "ids": lambda s: s.list_ids(10, 50),
    "text_mask": lambda s: s.has_text_mask(IDS),
    "people": lambda s: s.list_people(),
    "places": lambda s: [s.has_places(names) for names in (None, ["LISBON"], ["nowhere"])],
    "located": lambda s: (s.has_located(30, 50, -10, 10), s.has_located(80, 81, 0, 1)),
    "newest": lambda s: s.newest_ids(40),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_snapshots_answer_the_same(same, name):
    same(SNAPSHOTS[name])


QUERIES = """dog|dogs|beach sunset|strasse|straße|cafe|café|lodz|łódź|aero|ærø|rodgrod|hamburg|paint
painting|painter|us|US|as|is|possibly|IMG 2034|black-and-white cat|U.S.A|istanbul|the|to be|of the
東京|写真|桜の写真|长|长城照片|犬|iphone|iPhoneで|IPHONEで|สุนัข|해변|समुद्र|कुत्ता|كلب|собака|ежик|ёлка|θάλασσα|αθηνα
1e5|3.14|35mm|1st|x100v|anna|émile|lisbon|hello sea|dog sea|raining lisbon|page 3|good bye there
fussball|muenchen|broetchen|été|evora|xyzzy|oeuvre|œuvre|beach|2034|trips|golden hour|screenshot
naif|odysseus|οδυσσευς|'|a|psychology|trekking""".replace("\n", "|").split("|")


@pytest.mark.parametrize("query", QUERIES)
def test_words_find_the_same_texts(same, query):
    terms = [TextTerm(query, 1.0)]
    for limit, allowed in ((5, None), (1000, None), (50, IDS[::3])):
        same(lambda s, n=limit, ids=allowed: s.match(terms, n, ids))
    same(lambda s: s.matched_texts(IDS.tolist(), terms))


def test_most_queries_of_the_comparison_find_something(same):
    found = [same(lambda s, q=query: s.match([TextTerm(q, 1.0)], 5, None)) for query in QUERIES]
    assert sum(bool(ids[1]) for ids, *_ in found) > 0.75 * len(QUERIES)


def test_several_terms_find_the_same_texts(same):
    terms = [TextTerm("dog", 1.0), TextTerm("beach", 0.5), TextTerm("straße", -0.3)]
    same(lambda s: s.match(terms, 100, None))
    same(lambda s: s.matched_texts(IDS.tolist(), terms))


@pytest.mark.parametrize(
    "word",
    [
        "dog",
        "dgo",
        "sunste",
        "paintng",
        "hambrger",
        "strase",
        "straße",
        "lisbn",
        "hello",
        "raning",
        "xq",
        "brigton",
        "caffe",
        "2034",
        "possibley",
        "troop",
    ],
)
def test_misspelt_words_are_corrected_in_the_same_way(same, word):
    same(lambda s: s.has_word(word))
    same(lambda s: s.closest_word(word))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "d",
        "do",
        "bea",
        "str",
        "stra",
        "lis",
        "an",
        "anna",
        "é",
        "em",
        "gol",
        "a dog ru",
        "bri",
        "hau",
        "tro",
        "œ",
        "pai",
        "lod",
        "str ",
        "xyz",
        "rai",
        "hel",
        "20",
        "boo",
        "ham",
        "mün",
        "mun",
        "possi",
        "the be",
    ],
)
def test_suggestions_are_the_same(same, prefix):
    same(lambda s: s.suggest(prefix, 10, ALL_KINDS))
    for kind in SuggestionKind:
        same(lambda s, kind=kind: s.suggest(prefix, 5, frozenset([kind])))


def member(name):
    return FieldName(f"metadata.{name}")


CONDITIONS = [
    *(
        parse_condition(text)
        for text in (
            "metadata.price > 12",
            'metadata.price == "12"',
            'metadata.title == "STRASSE"',
            "metadata.sold == 1",
            "not metadata.price > 12",
            "metadata.size > 1000000000",
            "metadata.price * 2 > 24",
            "metadata.price < metadata.size",
            'metadata.price in (12, "12")',
            'metadata.title != "x"',
            "metadata.width > width",
            "12 < metadata.price",
            "metadata.price + 1 == 13",
            'metadata.title < "t"',
            'camera == "NIKON D700"',
            "megapixels > 2",
            "width / height > 1.3",
            "month in (3, 7)",
            'taken_at < "2016-01-01T00:00:00"',
            'kind == "SOUND"',
            'label == "GRÜN"',
            "latitude > 30 and longitude < 0",
            "size_bytes > 200",
            'orientation == "square" or rating >= 3',
            'format != "png"',
        )
    ),
    *(Contains(f"metadata.{name}", part) for name, part in (("title", "STR"), ("price", "1"))),
    *(Contains("metadata.tags", part) for part in ("BLAU", "grün", "3")),
    *(IsMissing(f"metadata.{name}") for name in ("nothing", "price", "inner", "unknown")),
    *(Compare(member("other"), "==", 9007199254740992 + number) for number in (0, 1)),
    *(Compare(member(name), "==", True) for name in ("price", "sold")),
    Compare(Arithmetic(member("title"), "+", 1), ">", 0),
    Compare(Arithmetic(member("price"), "/", member("price")), "==", 1),
    Compare(member("title"), ">=", member("title")),
    Compare(FieldName("camera"), "==", member("title")),
    *(OneOf(name, ()) for name in ("metadata.title", "camera", "tags")),
    OneOf("metadata.title", ("strasse", 12)),
    *(Contains("lens", part) for part in ("", "%", "/50", "É")),
    *(IsMissing(name) for name in ("lens", "taken_from", "people")),
    Contains("damage", "größe"),
    AllOf((Contains("tags", "sea"), Not(Contains("people", "bob")))),
    Compare(Arithmetic(FieldName("width"), "/", 0), ">", 1),
    Compare("a", "<", FieldName("camera")),
    Compare(1, "<", 2),
]

FILTERS = [
    Filters(),
    Filters(min_width=641),
    Filters(orientation="landscape"),
    Filters(after="2015-01-01T00:00:00"),
    Filters(before="2015-07-01T00:00:00"),
    Filters(after="2001-01-01T00:00:00", before="2020-06-01T00:00:00", file_dates=True),
    Filters(after="2010-10-31T02:30:00", file_dates=True),
    Filters(formats=("jpeg", "webp")),
    Filters(cameras=("éclair", "nikon")),
    Filters(cameras=("=ÉCLAIR 16",)),
    Filters(tags=("BEACH",)),
    Filters(tags=("strasse",)),
    Filters(auto_tags=("straße",)),
    Filters(people=("ANNA",)),
    Filters(people=("=émile zola",)),
    Filters(places=("Lissabon",)),
    Filters(near=GeoCircle(48.86, 2.35, 100)),
    Filters(near=GeoCircle(0.0, 180.0, 500)),
    Filters(min_rating=3),
    *(Filters(paths=(path,)) for path in ("trips/*.jpg", "/photos/trips", "!*.jpg", "*lisbon*")),
    *(Filters(where=condition) for condition in CONDITIONS),
]


@pytest.mark.parametrize("number", range(len(FILTERS)))
def test_filters_pass_the_same_pictures(same, number):
    filters = FILTERS[number]
    tree = make_filter_tree(filters)
    _, ids = same(lambda s: s.filter_ids(tree))
    same(lambda s: s.newest_ids(10, tree))
    same(lambda s: s.records(ids[:30], tree))
    same(lambda s: s.count_facets(list(FACET_FIELDS), np.array(ids), filters, limit=6, fold=True))


@pytest.mark.parametrize(
    "condition", [Compare(2**80, ">", FieldName("width")), Contains("lens", "\ud800")]
)
def test_values_that_neither_can_store_are_refused(readers, condition):
    for reader in readers:
        with reader.snapshot() as snapshot, pytest.raises(InvalidQueryError):
            snapshot.filter_ids(make_filter_tree(Filters(where=condition)))


def test_filter_that_the_server_refuses_leaves_the_snapshot_usable(readers):
    """Queries of one batch are answered from one snapshot."""
    product = Arithmetic(FieldName("width"), "*", 1e308)
    too_large = Filters(where=Compare(product, ">", 1))
    with readers[1].snapshot() as snapshot:
        with pytest.raises(InvalidQueryError, match="too large"):
            snapshot.filter_ids(make_filter_tree(too_large))
        assert len(snapshot.filter_ids(make_filter_tree(Filters(min_width=641)))) > 0


@pytest.mark.parametrize("filters", [Filters(), Filters(file_dates=True)])
def test_facets_of_all_pictures_are_the_same(same, filters):
    for fold in (True, False):
        same(
            lambda s, fold=fold: s.count_facets(
                list(FACET_FIELDS), None, filters, limit=20, fold=fold
            )
        )


def test_stems_differ_in_words_of_two_letters_only(paths):
    """PostgreSQL's Porter stemmer knows the rules of FTS5's, but has no shortest word."""

    from mmsearch.catalog.postgres import connect

    others = [word for captions in CAPTIONS.values() for text in captions for word in text.split()]
    words = sorted({*ENGLISH_WORDS.read_text().split(), *others})
    assert len(words) > 90_000
    db = sqlite3.connect(":memory:")
    db.execute(
        "CREATE VIRTUAL TABLE words USING fts5"
        " (text, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    db.execute("CREATE VIRTUAL TABLE places USING fts5vocab(words, instance)")
    db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(words))
    stems = {}
    for number, stem in db.execute("SELECT doc, term FROM places ORDER BY doc, offset"):
        stems.setdefault(words[number], []).append(stem)
    db.close()
    with connect(paths[1]) as connection:
        found = connection.execute(
            "SELECT word, tsvector_to_array(to_tsvector('mmsearch_words', folded))"
            " FROM unnest(%s::text[], %s::text[]) AS listed(word, folded)",
            [words, [index_text(word) for word in words]],
        ).fetchall()
    different = {word for word, own in found if set(own) != set(stems.get(word, ()))}
    assert {word.lower() for word in different} == OTHER_STEMS
