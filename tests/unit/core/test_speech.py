"""Transcripts, and what a search makes of them."""

import pytest

from mmsearch.api import parse_query
from mmsearch.core.query import Term
from mmsearch.core.speech import SpeechSegment, Transcript


def transcript_of(*texts, language="en"):
    segments = [SpeechSegment(text, n, n + 1, 0.8) for n, text in enumerate(texts)]
    return Transcript(segments, language, 0.9, len(texts))


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (["A dog on the beach."], "A dog on the beach"),
        (["A dog?!"], "A dog"),
        (["What is it?", " A dog. "], "What is it? A dog"),
        (["U.S. Capitol..."], "U.S. Capitol"),
        (["沙滩上的狗。"], "沙滩上的狗"),
        ([], ""),
    ],
)
def test_text_is_one_line_without_its_final_punctuation(texts, line):
    assert transcript_of(*texts).text == line


@pytest.mark.parametrize(
    "words", ["dog minus cat", "street -people", '"two cars"', "./secret.jpg", "image:a.jpg", "2:a"]
)
def test_words_of_a_transcript_are_literal(words):
    query = parse_query(transcript_of(words), without=["rain"])
    assert query.terms == (Term(words, language="en"), Term("rain", weight=-1.0))


def test_confidence_is_the_mean_of_the_segments_by_their_lengths():
    segments = [SpeechSegment("a", 0, 1, 0.9), SpeechSegment("b", 1, 4, 0.5)]
    assert Transcript(segments, "en", 1.0, 4).confidence == pytest.approx(0.6)
    assert Transcript((), "en", 1.0, 4).confidence == 0.0
