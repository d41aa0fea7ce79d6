"""Contract of `DerivedReader` and `DerivedWriter`, for every catalog."""

from dataclasses import replace

import pytest

from mmsearch.core.boxes import LineBox
from mmsearch.core.derived import (
    ContentScope,
    DerivedCounts,
    DerivedFile,
    DerivedState,
    DerivedSummary,
    DerivedTexts,
    FolderScope,
)
from mmsearch.core.query import TextTerm
from mmsearch.core.records import FileRef, FolderRecord
from mmsearch.core.types import Text
from tests.unit.catalog.samples import (
    IDENTITY,
    digest_of,
    encoded,
    generation,
    indexed,
    picture,
    segment,
)

KINDS = frozenset({"image"})


def file(number, rows=1):
    name = f"derived/{number:06d}-{number:016x}.jsonl.gz"
    return DerivedFile(number, FileRef(name, 100, f"{number:064x}"), rows)


def tag(word, made_by="one", **values):
    return Text("tag", word, None, "tags", made_by, 0.5, **values)


def made(content, *words, made_by="one", **values):
    texts = {0: tuple(tag(word, made_by) for word in words)} if words else {}
    return DerivedTexts(digest_of(content), "tags", made_by, texts, **values)


def pending(catalog, made_by="one", **options):
    found = catalog.derived.list_pending("tags", made_by, KINDS, 0, 100, **options)
    return [content.items[0].digest for content in found]


def words(catalog):
    """Return the texts of all live pictures by content."""
    return {
        item.digest: [text.text for text in item.picture.texts]
        for item in catalog.list_live_pictures(0, 100)
    }


@pytest.fixture
def catalog(catalog, root):
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a", b"b.jpg": "b", b"c.jpg": "c"}))
    return catalog


def test_contents_without_a_row_are_pending_page_by_page(catalog):
    first = catalog.derived.list_pending("tags", "one", KINDS, 0, 2)
    rest = catalog.derived.list_pending("tags", "one", KINDS, first[-1].id, 2)
    assert [content.items[0].digest for content in (*first, *rest)] == [
        digest_of(content) for content in "abc"
    ]
    assert catalog.derived.list_pending("tags", "one", frozenset({"video"}), 0, 2) == []
    assert catalog.derived.count_contents(KINDS) == 3


def test_contents_likely_to_have_text_are_listed_apart(catalog, root):
    facts = {
        b"photo.jpg": ("d", {"camera": "Canon"}),
        b"shot.png": ("e", {"format": "PNG"}),
        b"edited.png": ("f", {"format": "PNG", "camera": "Canon"}),
        b"Screenshots/1.jpg": ("g", {}),
        b"my SCAN 7.jpg": ("h", {}),
        b"odd\xff.jpg": ("i", {}),
    }
    for path, (content, values) in facts.items():
        shard = encoded(catalog, root, {path: content})
        (one,) = shard.pictures
        own = replace(one, picture=replace(one.picture, **values))
        catalog.commit_shard(replace(shard, pictures=[own]))
    assert pending(catalog, likely_text=True) == [digest_of(content) for content in "egh"]
    assert len(pending(catalog)) == 9


def test_boxes_of_a_text_come_back_and_those_of_its_matching_lines_are_found(catalog):
    boxes = (LineBox(0, 4, 0.0, 0.1, 0.5, 0.2), LineBox(5, 9, 0.5, 0.25, 1.0, 0.75))
    text = Text("ocr", "FIRE EXIT", None, "tags", "one", 0.5, boxes=boxes)
    catalog.derived.commit(file(1), [replace(made("a"), texts={0: (text,)})])
    (item, *_) = catalog.list_live_pictures(0, 100)
    assert item.picture.texts == (text,)
    ((content,), _) = catalog.derived.list_texts(0, 10)
    assert content.texts == {0: (text,)}
    with catalog.snapshot() as snapshot:
        (matched,) = snapshot.matched_texts([item.id], [TextTerm("exit")])
    assert matched.boxes == boxes[1:]


def test_commit_writes_texts_that_are_found_and_marks_nothing_as_stale(catalog):
    before = generation(catalog)
    catalog.derived.commit(file(1, 2), [made("a", "dog", "cat"), made("b")])
    assert generation(catalog) == before + 1
    assert pending(catalog) == [digest_of("c")]
    assert words(catalog)[digest_of("a")] == ["dog", "cat"]
    assert catalog.list_stale(0, 10) == []
    with catalog.snapshot() as snapshot:
        (item_id,) = snapshot.match([TextTerm("dog")], 10, None).ids.tolist()
        (record,) = snapshot.records([item_id])
        assert record.digest == digest_of("a")
        assert record.picture.texts[0] == tag("dog")
        assert not snapshot.has_text_mask(snapshot.match([TextTerm("dog")], 10, None).ids).any()
        assert not snapshot.has_texts
    assert catalog.derived.files() == [file(1, 2)]
    assert file(1).file_ref.name in catalog.referenced_files()
    assert catalog.derived.next_number() == 2


def test_another_fingerprint_makes_all_again_and_replaces_content_by_content(catalog):
    catalog.derived.commit(file(1, 3), [made("a", "dog"), made("b", "cow"), made("c")])
    assert pending(catalog, "two") == [digest_of(content) for content in "abc"]
    catalog.derived.commit(file(2), [made("a", "wolf", made_by="two")])
    assert words(catalog)[digest_of("a")] == ["wolf"]
    assert words(catalog)[digest_of("b")] == ["cow"]
    assert pending(catalog, "two") == [digest_of("b"), digest_of("c")]
    # The first fingerprint has nothing of it any more.
    assert pending(catalog) == [digest_of("a")]


def test_failures_keep_former_texts_and_are_pending_only_on_request(catalog):
    catalog.derived.commit(file(1), [made("a", "dog")])
    failed = made("a", made_by="two", state=DerivedState.FAILED, error="too dark")
    catalog.derived.commit(file(2), [failed])
    assert words(catalog)[digest_of("a")] == ["dog"]
    assert digest_of("a") not in pending(catalog, "two")
    assert digest_of("a") in pending(catalog, "two", retry_failed=True)
    assert catalog.derived.summarize() == [DerivedSummary("tags", "two", 0, 1, 0.0)]


def test_parts_of_a_long_content_replace_older_texts_up_to_their_end(catalog):
    old = {0: (tag("early", start_ms=1000), tag("late", start_ms=9000))}
    catalog.derived.commit(file(1), [DerivedTexts(digest_of("a"), "tags", "one", old)])

    def window(word, start_ms, state, **values):
        texts = {0: (tag(word, "two", start_ms=start_ms),)}
        return DerivedTexts(digest_of("a"), "tags", "two", texts, state, **values)

    begun = window("first", 500, DerivedState.PARTIAL, upto_ms=5000, seconds=2.0)
    catalog.derived.commit(file(2), [begun])
    assert sorted(words(catalog)[digest_of("a")]) == ["first", "late"]
    (content, *_) = catalog.derived.list_pending("tags", "two", KINDS, 0, 100)
    assert content.upto_ms == 5000
    ended = window("second", 6000, DerivedState.DONE, from_ms=5000, seconds=3.0)
    catalog.derived.commit(file(3), [ended])
    assert sorted(words(catalog)[digest_of("a")]) == ["first", "second"]
    assert digest_of("a") not in pending(catalog, "two")
    assert catalog.derived.summarize() == [DerivedSummary("tags", "two", 1, 0, 5.0)]


def test_a_repeated_window_does_not_double_its_texts(catalog):
    texts = {0: (tag("once", start_ms=100),)}
    window = DerivedTexts(digest_of("a"), "tags", "one", texts, DerivedState.PARTIAL, upto_ms=200)
    catalog.derived.commit(file(1), [window])
    catalog.derived.commit(file(2), [window])
    assert words(catalog)[digest_of("a")] == ["once"]


def test_contents_that_are_gone_are_passed_over_and_nothing_of_them_is_pending(catalog, root):
    catalog.commit_shard(indexed(root, {}, removed=[b"b.jpg"]))
    catalog.derived.commit(file(1, 2), [made("unknown", "ghost"), made("a", "dog")])
    assert pending(catalog) == [digest_of("c")]
    assert catalog.derived.count_contents(KINDS) == 2
    assert catalog.derived.list_texts(0, 10)[0] == [made("a", "dog")]


def test_lists_of_searchable_contents_pass_over_those_that_are_gone(catalog, root):
    catalog.derived.commit(file(1, 3), [made("a", "dog"), made("b", "cat"), made("c", "cow")])
    catalog.commit_shard(indexed(root, {}, removed=[b"a.jpg"]))
    first, last_id = catalog.derived.list_texts(0, 1, only_live=True)
    rest, _ = catalog.derived.list_texts(last_id, 5, only_live=True)
    assert [*first, *rest] == [made("b", "cat"), made("c", "cow")]
    assert len(catalog.derived.list_texts(0, 5)[0]) == 3


def test_enrichers_of_contents_are_found_by_digest(catalog):
    failed = DerivedTexts(digest_of("a"), "ocr", "two", state=DerivedState.FAILED, error="bad")
    catalog.derived.commit(file(1, 3), [made("a", "dog"), failed, made("b")])
    digests = [digest_of(content) for content in ("a", "b", "c", "unknown")]
    assert catalog.derived.find_enrichers(digests) == {
        digest_of("a"): {"tags", "ocr"},
        digest_of("b"): {"tags"},
        digest_of("c"): set(),
    }


def test_all_that_was_made_is_listed_by_pages(catalog):
    contents = [made("a", "dog", "cat", seconds=0.25), made("b"), made("c", "cow")]
    catalog.derived.commit(file(1, 3), contents)
    first, last_id = catalog.derived.list_texts(0, 2)
    rest, end = catalog.derived.list_texts(last_id, 2)
    assert [*first, *rest] == contents
    assert catalog.derived.list_texts(end, 2) == ([], end)


def test_one_file_replaces_the_others_and_numbers_are_not_used_again(catalog):
    catalog.derived.commit(file(1), [made("a", "dog")])
    catalog.derived.commit(file(2), [made("b", "cow")])
    number = catalog.derived.next_number()
    catalog.derived.replace_files(file(number, 2))
    assert catalog.derived.files() == [file(3, 2)]
    assert words(catalog)[digest_of("b")] == ["cow"]
    catalog.derived.replace_files(None)
    assert catalog.derived.files() == []
    assert catalog.derived.next_number() == 4


def test_removing_an_enricher_leaves_other_texts(catalog):
    catalog.derived.commit(file(1, 2), [made("a", "dog"), made("b")])
    other = DerivedTexts(
        digest_of("a"), "ocr", "x", {0: (Text("ocr", "EXIT", None, "ocr", "x", 0.9),)}
    )
    catalog.derived.commit(file(2), [other])
    assert catalog.derived.remove("tags", file(3)) == 2
    assert catalog.derived.files() == [file(3)]
    assert words(catalog)[digest_of("a")] == ["EXIT"]
    assert [summary.enricher for summary in catalog.derived.summarize()] == ["ocr"]
    assert catalog.derived.remove("ocr", None) == 1
    assert (catalog.derived.files(), catalog.derived.summarize()) == ([], [])


def test_texts_of_a_file_that_is_read_again_replace_only_their_own(catalog):
    catalog.derived.commit(file(1), [made("a", "dog")])
    (item,) = [i for i in catalog.list_live_pictures(0, 9) if i.digest == digest_of("a")]
    _, number = catalog.next_free_ids()
    catalog.commit_embeddings(segment(number, 1), [picture(item.id, "a", ("title", "My dog"))])
    assert sorted(words(catalog)[digest_of("a")]) == ["My dog", "dog"]
    _, number = catalog.next_free_ids()
    catalog.commit_embeddings(segment(number, 1), [picture(item.id, "a")])
    assert words(catalog)[digest_of("a")] == ["dog"]


@pytest.fixture
def folders(catalog, root):
    """The ids of two sources; the second has a copy of "a" and a picture in a folder of its own."""
    other = catalog.ensure_root(b"/other")[0]
    files = {b"copy.jpg": "a", b"in/d.jpg": "d", b"in0/e.jpg": "e", b"in/deep/f.jpg": "f"}
    new = {path: content for path, content in files.items() if content != "a"}
    catalog.commit_shard(encoded(catalog, other, new))
    catalog.commit_shard(indexed(other, {b"copy.jpg": "a"}))
    return root.id, other.id


def in_scope(catalog, *all_of, none_of=()):
    """Return the contents that are pending in a scope, and check the number of those left."""
    scope = ContentScope(all_of, tuple(none_of))
    found = pending(catalog, scope=scope)
    assert catalog.derived.count("tags", "one", KINDS, scope).left == len(found)
    return "".join(name for name in "abcdef" if digest_of(name) in found)


def test_scope_chooses_contents_by_source_and_folder(catalog, folders):
    first, second = map(FolderScope, folders)
    inner = FolderScope(second.source_id, b"in")
    assert in_scope(catalog) == "abcdef"
    assert in_scope(catalog, (first,)) == "abc"
    assert in_scope(catalog, (second,)) == "adef"
    assert in_scope(catalog, (first, inner)) == "abcdf"
    assert in_scope(catalog, (inner,)) == "df"
    assert in_scope(catalog, (FolderScope(second.source_id, b"", (b"in",)),)) == "ae"
    assert in_scope(catalog, (FolderScope(second.source_id, b"in", (b"in/deep",)),)) == "d"
    # A content of several sources counts if one of them is in the scope, and in none left out.
    assert in_scope(catalog, (first,), (second,)) == "a"
    assert in_scope(catalog, (second,), none_of=[first]) == "def"
    assert in_scope(catalog, ()) == ""


def test_contents_are_counted_by_state(catalog):
    catalog.derived.commit(
        file(1, 2), [made("a", "dog"), made("b", state=DerivedState.FAILED, error="dark")]
    )
    partial = made("c", state=DerivedState.PARTIAL, upto_ms=5)
    assert catalog.derived.count("tags", "one", KINDS) == DerivedCounts(1, 1, 1)
    catalog.derived.commit(file(2), [partial])
    assert catalog.derived.count("tags", "one", KINDS) == DerivedCounts(1, 1, 1)
    assert catalog.derived.count("tags", "two", KINDS) == DerivedCounts(0, 0, 3)
    assert catalog.derived.count("tags", None, KINDS) == DerivedCounts(1, 1, 1)
    assert catalog.derived.count("ocr", None, KINDS) == DerivedCounts(0, 0, 3)
    assert catalog.derived.count("tags", "one", {"video"}) == DerivedCounts()


def test_other_texts_of_models_leave_the_parts_of_a_source_as_they_are(catalog):
    archive = catalog.ensure_source("archive", b"/a.zip", {"texts": ["x"]})
    part = FolderRecord(b"stamp", 1, 0)
    catalog.save_part(archive.id, b"", part)
    catalog.set_choices(archive.id, {"texts": ["x"], "describe": {"tags": {}}})
    assert catalog.load_folder_states(archive.id, b"") == {b"": part}
    catalog.set_choices(archive.id, {"texts": ["y"], "describe": {"tags": {}}})
    assert catalog.load_folder_states(archive.id, b"") == {}
    (source,) = (source for source in catalog.sources() if source.id == archive.id)
    assert source.choices == {"texts": ["y"], "describe": {"tags": {}}}
