"""Words of queries: what is left out, and which words of texts match."""

from pathlib import Path

import pytest

from mmsearch.catalog.query_words import (
    EXACT,
    FOLDED,
    INFLECTED,
    accented_spellings,
    compare_words,
    differs_by_accents,
    fold_case,
    parse_words,
)


def words_of(text):
    return [token.value for token in parse_words(text).tokens]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the dog", ["dog"]),
        ("a photo of a dog on the beach", ["dog", "beach"]),
        ("ein Foto von einem Hund am Strand", ["hund", "strand"]),
        ("une image d'un chien sur l'herbe", ["chien", "herbe"]),
        ("un perro en la playa", ["perro", "playa"]),
        ("il cane nella neve", ["cane", "neve"]),
        ("een hond op het strand", ["hond", "strand"]),
        ("um cão na praia", ["cão", "praia"]),
        ("the dog's bowl isn't here", ["dog", "bowl"]),
        ("US flag", ["us", "flag"]),
        ("PHOTO OF THE DOG", ["dog"]),
        ("white van, hat, war, son, door", ["white", "van", "hat", "war", "son", "door"]),
        ("letter M", ["letter", "m"]),
        ("犬の写真", ["犬"]),
        ("2019 Hamburg", ["2019", "hamburg"]),
    ],
)
def test_parse_words_leaves_out_words_that_say_nothing(text, words):
    assert words_of(text) == words
    assert parse_words(text).literal == ()


def test_parse_words_every_query_of_stop_words_says_nothing():
    table = Path(__file__).parents[3] / "benchmarks/quality/sets/stop_word_queries.csv"
    queries = table.read_text(encoding="utf-8").splitlines()[1:]
    assert len(queries) > 30
    assert [query for query in queries if parse_words(query).tokens] == []


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("The Who", ("the", "who")),
        ("to be or not to be", ("to", "be", "or", "not", "to", "be")),
        ("it", ("it",)),
        ("Bild", ("bild",)),
        ("", ()),
        ("?!", ()),
    ],
)
def test_parse_words_stop_words_alone_are_a_phrase(text, literal):
    assert words_of(text) == []
    assert parse_words(text).literal == literal


@pytest.mark.parametrize(
    ("query", "text", "weight"),
    [
        ("dog", "dog", EXACT),
        ("dog", "dogs", INFLECTED),
        ("animals", "animal", INFLECTED),
        ("boxes", "box", INFLECTED),
        ("party", "parties", INFLECTED),
        ("run", "running", INFLECTED),
        ("dancing", "danced", INFLECTED),
        ("hund", "hunde", INFLECTED),
        ("hamburger", "hamburg", 0.0),
        ("hamburg", "hamburger", 0.0),
        ("university", "universe", 0.0),
        ("organ", "organization", 0.0),
        ("new", "news", 0.0),
        ("glass", "glas", 0.0),
        ("king", "kings", INFLECTED),
        ("cat", "cắt", FOLDED),
        ("cắt", "cat", 0.0),
        ("cắt", "cất", 0.0),
        ("cắt", "cắt", EXACT),
        ("cafe", "café", FOLDED),
        ("cafes", "café", FOLDED),
        ("café", "cafe", 0.0),
        ("zurich", "zürich", FOLDED),
        ("zuerich", "zürich", FOLDED),
        ("uber", "über", FOLDED),
        ("aero", "ærø", FOLDED),
        ("tromso", "tromsø", FOLDED),
        ("lodz", "łódź", FOLDED),
        ("strasse", "straße", EXACT),
        ("straße", "strasse", EXACT),
        ("елка", "ёлка", FOLDED),
    ],
)
def test_compare_words_tells_exact_inflected_and_accented_words_apart(query, text, weight):
    assert compare_words(fold_case(query), fold_case(text)) == weight


def test_accented_spellings_are_few_and_include_letters_that_fts5_does_not_fold():
    assert "łodz" in accented_spellings("lodz")
    assert "ærø" in accented_spellings("aero")
    assert len(accented_spellings("lollipop" * 50)) <= 24


def test_differs_by_accents_ignores_inflections():
    assert differs_by_accents("cắt", "cats")
    assert not differs_by_accents("cắt", "cut")
