"""Notices about the language and the spelling of a query."""

import pytest

from mmsearch.core.query import Mode, Term
from mmsearch.search import notices
from mmsearch.search.notices import find_notices
from mmsearch.search.query_parser import parse_query


class Words:
    """The words of an index."""

    def __init__(self, *words, closest=None):
        self._words, self._closest = words, closest or {}

    def has_word(self, word):
        return word in self._words

    def closest_word(self, word):
        return self._closest.get(word)


def notices_of(query, *, snapshot=None, languages=("en",), model="starter", mode=Mode.HYBRID):
    terms = parse_query(query) if isinstance(query, str) else query
    found = find_notices(terms, mode, model, languages, snapshot or Words())
    return {notice.code: notice for notice in found}


def test_query_in_another_language_says_what_the_model_reads_and_what_to_do():
    notice = notices_of("ein Hund am Strand")["language"]
    assert notice.text.startswith("The built-in model reads English; this looks like German.")
    assert "mmsearch models pull" in notice.text
    assert notice.suggestion is None


def test_model_of_a_plugin_is_named():
    notice = notices_of("犬", model="open_clip:ViT-B-32-256/datacomp_s34b_b86k")["language"]
    assert "open_clip:ViT-B-32-256/datacomp_s34b_b86k reads English" in notice.text


@pytest.mark.parametrize("languages", [(), ("en", "de")])
def test_model_that_reads_the_language_gives_no_notice(languages):
    assert notices_of("ein Hund am Strand", languages=languages) == {}


def test_spoken_language_counts_more_than_the_looks_of_the_words():
    notice = notices_of((Term("Mama", language="de"),))["language"]
    assert notice.text.startswith("The built-in model reads English; German was spoken.")
    assert notices_of((Term("ein Hund am Strand", language="en"),)) == {}
    notice = notices_of((Term("mbwa", language="sw"),), languages=("en", "de"))["language"]
    assert "does not read every language; the language 'sw' was spoken" in notice.text
    assert "pip install" not in notice.text


def test_text_search_and_english_queries_give_no_notice():
    assert notices_of("ein Hund am Strand", mode=Mode.TEXT) == {}
    assert notices_of("a dog on the beach") == {}
    assert notices_of("dog - cat + sunset") == {}


def test_pictures_and_negative_terms_are_left_out():
    assert notices_of((Term(picture=3), Term("zeebra", weight=-1.0), Term("horse"))) == {}


@pytest.mark.parametrize(
    ("query", "suggestion"),
    [
        ("elefant", "elephant"),
        ("a big elefnat", "a big elephant"),
        ("Moutain at sunsett -people", "- people + Moutain at sunset"),
        ("2:zeebra + grass", "2:zebra + grass"),
    ],
)
def test_misspelt_word_gives_the_corrected_query(query, suggestion):
    notice = notices_of(query)["spelling"]
    assert notice.suggestion == suggestion
    assert notice.text == f"Did you mean '{suggestion}'?"


def test_words_of_the_library_come_first_and_are_never_corrected():
    library = Words("elefant", closest={"tigar": "tigger"})
    assert "spelling" not in notices_of("elefant", snapshot=library)
    assert notices_of("tigar", snapshot=library)["spelling"].suggestion == "tigger"


def test_word_that_sounds_the_same_beats_a_word_of_the_library_that_looks_alike():
    library = Words(closest={"elefant": "elegant"})
    assert notices_of("elefant", snapshot=library)["spelling"].suggestion == "elephant"


def test_names_and_words_with_digits_are_corrected_to_words_of_the_library_only():
    assert notices_of("Giulai") == {}
    library = Words(closest={"giulai": "giulia"})
    assert notices_of("Giulai", snapshot=library)["spelling"].suggestion == "giulia"
    assert notices_of("zeebra7") == {}
    assert notices_of("IMG_0012 DSC0034.jpg #zeebra") == {}


def test_foreign_words_are_not_corrected_to_words_that_look_alike():
    assert "spelling" not in notices_of("hund")
    assert "spelling" not in notices_of("gatto")
    assert "spelling" not in notices_of("ein Hund am Strand")
    assert "spelling" not in notices_of("hond op het strand")


def test_long_texts_are_not_corrected():
    assert notices_of("zeebra " + "and a dog " * 9) == {}


def test_language_of_a_query_is_scored_once(monkeypatch):
    scored = []
    score = notices.score_other_language
    monkeypatch.setattr(
        notices, "score_other_language", lambda text: scored.append(text) or score(text)
    )
    assert "spelling" in notices_of("elefant", snapshot=Words("elephant"))
    assert scored == ["elefant"]
