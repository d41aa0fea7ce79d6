"""Suggestions: words of a catalog that begin with a prefix."""

import pytest

from mmsearch.catalog.suggestion_words import find_word, is_word
from mmsearch.catalog.suggestions import fold
from mmsearch.core.errors import UsageError
from mmsearch.core.records import IndexedFile, ShardCommit
from mmsearch.core.suggestions import SuggestedWord, SuggestionKind, check_kinds, check_limit
from mmsearch.core.types import Text
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, seen

ALL = frozenset(SuggestionKind)
TEXTS = {
    "a": (
        Text("caption", "A red car on the beach of Łódź"),
        Text("keywords", "Hot Air Balloon; beach"),
        Text("people", "Zoë Müller"),
    ),
    "b": (Text("caption", "Cars and carts"), Text("place", "München; Germany")),
    "c": (
        Text("filename", "DCIM IMG 1234 a95e0aa876 qwrtz holiday", None, "filename"),
        Text("ocr", "xlkrt carnival", None, "ocr", made_by="ocr-1"),
        Text("keywords", "2019; hot dog"),
    ),
}


def store(catalog, root, texts_by_content):
    files = {f"{content}.jpg".encode(): content for content in texts_by_content}
    catalog.commit_shard(encoded(catalog, root, files))
    indexed = [
        IndexedFile(seen(path), digest_of(content), texts_by_content[content], texts_key=b"key")
        for path, content in files.items()
    ]
    catalog.commit_shard(ShardCommit(root.id, 2, indexed=indexed))


def update(catalog, *looks):
    own = sorted(catalog.suggestions.collect(), key=lambda word: -word.count)
    state = catalog.suggestions.current_state("encoder", "words")
    catalog.suggestions.save([*own, *looks], state)
    return state


@pytest.fixture
def library(catalog, root):
    catalog.set_identity(IDENTITY)
    store(catalog, root, TEXTS)
    update(
        catalog, SuggestedWord("camel", 1, confidence=0.9), SuggestedWord("car", 2, confidence=0.9)
    )
    return catalog


def suggest(catalog, prefix, limit=8, kinds=ALL):
    with catalog.snapshot() as snapshot:
        return snapshot.suggest(prefix, limit, kinds)


def texts(catalog, prefix, limit=8, kinds=ALL):
    return [suggestion.text for suggestion in suggest(catalog, prefix, limit, kinds)]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("bea", ["beach"]),
        ("BEA", ["beach"]),
        ("mun", ["München"]),
        ("MÜN", ["München"]),
        ("lod", ["Łódź"]),
        ("zoe mu", ["Zoë Müller", "zoe München"]),
        ("hot a", ["Hot Air Balloon", "hot air"]),
        ("hot ", ["Hot Air Balloon", "hot dog"]),
        ("a photo of a hot d", ["a photo of a hot dog"]),
        ("-germ", ["-Germany"]),
        ("red, bea", ["red, beach"]),
        ("beach bea", []),
        ("holi", ["holiday"]),
        ("carn", ["carnival"]),
        ("cam", ["camel"]),
        ("ger", ["Germany"]),
        ("qwr", []),
        ("xlk", []),
        ("img", []),
        ("a95", []),
        ("201", []),
        ("zzz", []),
        ("'", []),
        ("%", []),
        ("x" * 300, []),
    ],
)
def test_prefix_is_completed(library, prefix, expected):
    assert texts(library, prefix) == expected


def test_several_words_complete_the_last_one_and_keep_the_others(library):
    found = texts(library, "a red ca")
    assert found[0].startswith("a red ca")
    assert {"a red camel", "a red carnival", "a red cart"} <= {
        text.removesuffix("s") for text in found
    }


def test_kinds_counts_and_examples(library):
    found = {s.text: (s.kind, s.count) for p in "bzmgch" for s in suggest(library, p, 50)}
    assert found["beach"] == ("tag", 1)
    assert found["Zoë Müller"] == ("person", 1)
    assert found["München"] == ("place", 1)
    assert found["camel"] == ("look", None)
    assert found["car"] == ("word", 2) or found["cars"] == ("word", 2)
    assert texts(library, "z", kinds=frozenset({SuggestionKind.PERSON})) == ["Zoë Müller"]
    assert texts(library, "c", kinds=frozenset({SuggestionKind.LOOK})) == ["camel"]
    (beach,) = suggest(library, "bea")
    with library.snapshot() as snapshot:
        (record,) = snapshot.records([beach.item])
    assert record.key == b"a.jpg"


def test_word_that_is_complete_comes_first(catalog, root):
    catalog.set_identity(IDENTITY)
    texts_by_content = {str(n): (Text("caption", "seaside"),) for n in range(4)}
    store(catalog, root, {**texts_by_content, "sea": (Text("caption", "sea"),)})
    update(catalog)
    assert texts(catalog, "sea") == ["sea", "seaside"]
    assert texts(catalog, "se") == ["seaside", "sea"]


def test_empty_prefix_has_some_of_each_kind(library):
    found = suggest(library, "", 10)
    assert {s.kind for s in found[:5]} == {"tag", "person", "place", "word", "look"}
    assert len({s.text for s in found}) == 10
    assert suggest(library, "  ", 10) == found
    assert suggest(library, "", 3) == found[:3]


def test_looks_get_a_quarter_of_the_places(catalog, root):
    catalog.set_identity(IDENTITY)
    store(catalog, root, {"a": (Text("keywords", "; ".join(f"s{c}" for c in "abcdefghij")),)})
    update(catalog, *(SuggestedWord(f"s{c}x", 1, confidence=0.5) for c in "klmno"))
    kinds = [s.kind for s in suggest(catalog, "s", 8)]
    assert kinds == ["tag"] * 6 + ["look"] * 2
    assert [s.kind for s in suggest(catalog, "s", 12)] == ["tag"] * 9 + ["look"] * 3


def test_words_without_a_picture_are_not_suggested(library, root):
    library.commit_shard(ShardCommit(root.id, 3, removed=[b"a.jpg"]))
    assert texts(library, "bea") == []
    assert texts(library, "zoe") == []
    assert texts(library, "cam") == []
    assert texts(library, "carn") == ["carnival"]
    library.commit_shard(ShardCommit(root.id, 4, removed=[b"b.jpg", b"c.jpg"]))
    assert texts(library, "") == []


def test_word_is_found_in_another_picture_if_its_example_is_gone(catalog, root):
    catalog.set_identity(IDENTITY)
    store(catalog, root, {n: (Text("caption", "a windmill"),) for n in "abc"})
    update(catalog)
    (first,) = suggest(catalog, "wind")
    assert first.count == 3
    with catalog.snapshot() as snapshot:
        (record,) = snapshot.records([first.item])
    catalog.commit_shard(ShardCommit(root.id, 3, removed=[record.key]))
    (other,) = suggest(catalog, "wind")
    assert other.item != first.item


def test_new_words_are_found_before_the_next_update(library, root):
    store(library, root, {"d": (Text("caption", "A Hippopotamus"), Text("people", "Ulrike"))})
    assert texts(library, "hip") == ["hippopotamus"]
    assert suggest(library, "ulr")[0].kind == "person"
    # Shorter prefixes have too many words to look at.
    assert texts(library, "hi") == []


def test_index_without_suggestions_has_its_words(catalog, root):
    catalog.set_identity(IDENTITY)
    assert texts(catalog, "") == []
    store(catalog, root, TEXTS)
    assert texts(catalog, "beac") == ["beach"]
    assert catalog.suggestions.saved_state() is None


def test_state_is_kept(library):
    state = library.suggestions.current_state("encoder", "words")
    assert library.suggestions.saved_state() == state
    assert (state.pictures, state.encoder, state.vocabulary) == (3, "encoder", "words")
    with library.snapshot() as snapshot:
        assert snapshot.identity == IDENTITY


@pytest.mark.parametrize(
    ("word", "sources", "count", "expected"),
    [
        ("Hamburg", {"sidecar"}, 1, True), ("xkqrz", {"sidecar"}, 1, True),
        ("Sylt", {"filename"}, 1, False), ("Sylt", {"filename"}, 2, True),
        ("windmill", {"filename"}, 1, True), ("kjhgfd", {"ocr"}, 9, False),
        ("Bäckerei", {"ocr"}, 2, False), ("Bäckerei", {"ocr"}, 3, True),
        ("image", {"sidecar"}, 9, False), ("the", {"sidecar"}, 9, False),
        ("ab", {"sidecar"}, 9, False), ("a1b2c3", {"sidecar"}, 9, False),
        ("москва", {"sidecar"}, 1, True), ("写真写真", {"sidecar"}, 9, False),
    ],
)  # fmt: skip
def test_noise_is_no_word(word, sources, count, expected):
    assert is_word(word, sources, count) is expected


def test_find_word():
    assert find_word("The happy, Happy cities", 3, "citi") == "cities"
    assert find_word("The happy cities", 9, "citi") == ""
    assert find_word("The happy cities", 1, "citi") == ""


@pytest.mark.parametrize(
    ("text", "folded"),
    [("  Ein  Ärger ", "ein arger "), ("ÉTÉ", "ete"), ("", ""), ("Łódź", "lodz")],
)
def test_fold(text, folded):
    assert fold(text) == folded


def test_limits_and_kinds_are_checked():
    check_limit(1)
    assert check_kinds(()) == ALL
    assert check_kinds(["tag"]) == {SuggestionKind.TAG}
    for limit in (0, 51, -1):
        with pytest.raises(UsageError, match="must be 1 to 50"):
            check_limit(limit)
    with pytest.raises(UsageError, match="no kind of suggestion 'camera'"):
        check_kinds(["camera"])
