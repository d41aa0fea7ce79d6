"""The query language of docs/reference/query-language.md, line by line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.query import Term
from mmsearch.search.query_parser import format_query, parse_query


def term(text, weight=1.0):
    return Term(text, weight=weight)


def image_term(path, weight=1.0):
    return Term(image=Path(path), weight=weight)


def url_term(url, weight=1.0):
    return Term(url=url, weight=weight)


@pytest.mark.parametrize(
    ("line", "terms"),
    [
        ("a dog on a beach", [term("a dog on a beach")]),
        ("dog + snow", [term("dog"), term("snow")]),
        ("2:dog + snow", [term("dog", 2), term("snow")]),
        ("2:golden retriever", [term("golden retriever", 2)]),
        ("0.5:dog", [term("dog", 0.5)]),
        ("street - people", [term("street"), term("people", -1)]),
        ("street -people at night", [term("people", -1), term("street at night")]),
        ('street -"parked cars"', [term("parked cars", -1), term("street")]),
        ("street -2:people", [term("people", -2), term("street")]),
        ('"rock - paper"', [term("rock - paper")]),
        (r'"a \"red\" car"', [term('a "red" car')]),
        ("./car.jpg + snow", [image_term("car.jpg"), term("snow")]),
        ("/a/car.jpg - red + blue", [image_term("/a/car.jpg"), term("red", -1), term("blue")]),
        ("image:car.jpg", [image_term("car.jpg")]),
        ('"/a b/car.jpg"', [image_term("/a b/car.jpg")]),
        ("2:./car.jpg", [image_term("car.jpg", 2)]),
        ("image:https://a.example//b.jpg", [url_term("https://a.example//b.jpg")]),
        ("dog -2:image:HTTP://a.example", [url_term("HTTP://a.example", -2), term("dog")]),
        ('"image:http://a.example/b c"', [url_term("http://a.example/b c")]),
        ("https://a.example/b.jpg", [term("https://a.example/b.jpg")]),
        ("image:ftp://a.example/b", [image_term("ftp:/a.example/b")]),
        ("a t-shirt", [term("a t-shirt")]),
        ("16:9 at 10:30", [term("16:9 at 10:30")]),
        ("犬 + 雪", [term("犬"), term("雪")]),
    ],
)
def test_parse_query_valid_line_returns_terms(line, terms):
    assert list(parse_query(line)) == terms


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("+", "empty"),
        ('""', "empty"),
        ("-people", "only says"),
        ("- people - cars", "only says"),
        ("0:dog", "got 0"),
        ("1000:dog", "got 1000"),
        (" + ".join(["dog"] * 33), "33 terms"),
    ],
)
def test_parse_query_invalid_line_raises_error_with_reason(line, complaint):
    with pytest.raises(InvalidQueryError, match=complaint):
        parse_query(line)


@given(st.text(max_size=40))
def test_parse_query_any_line_returns_positive_term_or_raises_error(line):
    try:
        terms = parse_query(line)
    except InvalidQueryError:
        return
    assert any(one.weight > 0 for one in terms)


words = st.lists(st.text("abcxyz", min_size=1, max_size=6), min_size=1, max_size=3).map(" ".join)
weights = st.sampled_from((1.0, 2.0, 0.5, -1.0, -3.0))


urls = st.sampled_from(("http://a.example/", "https://b.example//c,d+e-f?g=%20"))
formattable_terms = st.one_of(st.builds(term, words, weights), st.builds(url_term, urls, weights))


@given(st.lists(formattable_terms, min_size=1, max_size=5))
def test_parse_query_of_formatted_terms_returns_same_terms(terms):
    first = [replace(terms[0], weight=abs(terms[0].weight)), *terms[1:]]
    assert list(parse_query(format_query(first))) == first


@pytest.mark.parametrize("line", ["image:~nobody-of-this-name/a.jpg", "image:~nobody-of-this-name"])
def test_parse_query_home_of_unknown_user_is_kept_as_literal_path(line):
    assert parse_query(line) == (Term(image=Path(line.removeprefix("image:"))),)


@pytest.mark.parametrize(
    ("line", "literal_words"),
    [
        ("last summer", ()),
        ('"last summer"', ("last summer",)),
        ('Anna "last summer" at "the beach"', ("last summer", "the beach")),
        ('" last - summer"', ()),
    ],
)
def test_quoted_phrases_are_literal(line, literal_words):
    (found,) = parse_query(line)
    assert found.literal_words == literal_words
