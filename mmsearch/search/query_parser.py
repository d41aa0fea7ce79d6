"""The query language: a line of text -> terms. Pure. docs/query-language.md is its grammar.

A term is words, a "quoted phrase", or a picture's path or URL, with a weight before it (``2:dog``)
if it shall count more or less. Terms are joined by `` + `` and `` - ``; ``-word`` and
``-"some words"`` are short for a term that is taken away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError
from mmsearch.core.files import expand_user
from mmsearch.core.queries import Term

MOST_TERMS = 32
MOST_WEIGHT = 100.0

_HINT = 'Describe a picture: mmsearch query "a red car"'

# A sign that touches the next letter belongs to that word; one between spaces joins terms. A number
# with a colon is a weight unless a digit follows: 16:9 is a format, 10:30 a time.
_TOKEN = re.compile(
    r"""(?P<operator>[+-])(?=\s|$)
      | (?P<sign>[+-])?(?P<weight>\d+(?:\.\d+)?:(?=[^\s\d]))?
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|$)|(?P<word>\S+))""",
    re.VERBOSE,
)
_URL = re.compile(r"image:(?=https?://)", re.IGNORECASE)
_PATH = re.compile(r"(?:image:|\.{1,2}[/\\]|/|~/|[A-Za-z]:[/\\])(?=.)")


def parse_query(text: str) -> tuple[Term, ...]:
    """The terms of a query.

    Raises:
        InvalidQueryError: Nothing is asked for, or a weight makes no sense.
    """
    if not text.strip():
        raise InvalidQueryError("The query is empty.", _HINT)
    return check_terms(tuple(_terms(text)))


def refuse_urls(terms: Sequence[Term]) -> None:
    """Refuse pictures that would have to be fetched.

    Raises:
        SourceError: One is elsewhere.
    """
    for term in terms:
        if term.url is not None:
            raise SourceError(
                f"{display_path(term.url)} is not fetched: only a server does that.",
                "Name a file, or ask `mmsearch serve --allow-url-queries`.",
            )


def check_terms(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Refuse terms that describe nothing.

    Raises:
        InvalidQueryError: There are none, only such that are taken away, or too many; or a weight
            makes no sense.
    """
    if not terms:
        raise InvalidQueryError("The query is empty.", _HINT)
    for term in terms:
        if not 0 < abs(term.weight) <= MOST_WEIGHT:
            raise InvalidQueryError(
                f"The weight {abs(term.weight):g} is not above 0 and up to {MOST_WEIGHT:g}.",
                'A weight stands before a term: "2:golden retriever + snow"',
            )
        named = any(place is not None for place in (term.image, term.picture, term.url))
        if not named and not (term.text or "").strip():
            raise InvalidQueryError("A term of the query is empty.", _HINT)
    if not any(term.weight > 0 for term in terms):
        raise InvalidQueryError(
            "The query only says what pictures should not look like.",
            "Say also what they should look like: street -people",
        )
    if len(terms) > MOST_TERMS:
        raise InvalidQueryError(f"The query has {len(terms)} terms; {MOST_TERMS} are allowed.")
    return tuple(terms)


def written(terms: Sequence[Term]) -> str:
    """Terms as one line, as a person would write them."""
    line = ""
    for term in terms:
        weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}:"
        sign = " - " if term.weight < 0 else " + "
        line += f"{sign}{weight}{_named(term)}"
    return line.removeprefix(" + ").strip()


def _named(term: Term) -> str:
    if term.picture is not None:
        return f"picture {term.picture}"
    if term.url is not None:
        return f"image:{display_path(term.url)}"
    return (term.text or "") if term.image is None else display_path(term.image)


@dataclass
class _Open:
    """A term whose words are still being read."""

    sign: float = 1.0
    weight: float = 1.0
    words: list[str] = field(default_factory=list)

    def close(self) -> Iterator[Term]:
        if self.words:
            yield Term(" ".join(self.words), weight=self.sign * self.weight)


def _terms(text: str) -> Iterator[Term]:
    """Terms in the order in which they end; a term of one piece does not end the one around it."""
    around = _Open()
    for found in _TOKEN.finditer(text):
        if found["operator"]:
            yield from around.close()
            around = _Open(sign=-1.0 if found["operator"] == "-" else 1.0)
            continue
        words = _words(found)
        if not words.strip():
            raise InvalidQueryError("A term of the query is empty.", _HINT)
        weight = float(found["weight"][:-1]) if found["weight"] else None
        if _PATH.match(words) or _URL.match(words):
            sign = around.sign if found["sign"] is None else _sign(found["sign"])
            inherited = around.weight if weight is None else weight
            yield _picture(words, sign * inherited)
        elif found["sign"]:
            yield Term(words, weight=_sign(found["sign"]) * (1.0 if weight is None else weight))
        elif weight is not None:
            yield from around.close()
            around = _Open(around.sign, weight, [words])
        else:
            around.words.append(words)
    yield from around.close()


def _picture(words: str, weight: float) -> Term:
    if found := _URL.match(words):
        return Term(url=words[found.end() :], weight=weight)
    return Term(image=expand_user(words.removeprefix("image:")), weight=weight)


def _words(found: re.Match[str]) -> str:
    quoted = found["quoted"]
    return re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found["word"]


def _sign(sign: str) -> float:
    return -1.0 if sign == "-" else 1.0
