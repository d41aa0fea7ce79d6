"""Parser of the query language. Pure. The grammar is in docs/reference/query-language.md.

A term is words, a "quoted phrase", or the path or URL of a picture. A weight before it (``2:dog``)
makes it count more or less. Terms are joined by `` + `` and `` - ``; ``-word`` and
``-"some words"`` are short forms of a negative term.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mmsearch.core.display import display_path
from mmsearch.core.errors import Hint, InvalidQueryError, SourceError
from mmsearch.core.files import expand_user
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.core.sorting import check_sort

MAX_TERMS = 32
MAX_CLICKS = 100
"""Maximum number of pictures of the index, which a person liked or disliked, in a query."""

MAX_WEIGHT = 100.0

_EXAMPLE = Hint("Describe a picture{}", ", such as 'a red car'.", ': mmsearch query "a red car"')

# A sign directly before a word belongs to that word; a sign between spaces joins terms. A number
# with a colon is a weight unless a digit follows: 16:9 is an aspect ratio, 10:30 is a time.
_TOKEN = re.compile(
    r"""(?P<operator>[+-])(?=\s|$)
      | (?P<sign>[+-])?(?P<weight>\d+(?:\.\d+)?:(?=[^\s\d]))?
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|$)|(?P<word>\S+))""",
    re.VERBOSE,
)
_URL = re.compile(r"image:(?=https?://)", re.IGNORECASE)
_PATH = re.compile(r"(?:image:|\.{1,2}[/\\]|/|~/|[A-Za-z]:[/\\])(?=.)")


def parse_query(text: str) -> tuple[Term, ...]:
    """Parse a line of the query language into terms.

    Raises:
        InvalidQueryError: The query is empty, or its terms are invalid; see `check_terms`.
    """
    if not text.strip():
        raise InvalidQueryError("The query is empty.", _EXAMPLE)
    return check_terms(tuple(_parse_terms(text)))


def reject_urls(terms: Sequence[Term]) -> None:
    """Reject terms that name a picture by its URL.

    Raises:
        SourceError: A term has a URL.
    """
    for term in terms:
        if term.url is not None:
            raise SourceError(
                f"{display_path(term.url)} cannot be fetched: only a server fetches URLs.",
                Hint(
                    "Use a local file, or send the query to {}.",
                    "a server that fetches URLs",
                    "`mmsearch serve --allow-url-queries`",
                ),
            )


def check_terms(terms: Sequence[Term], *, may_be_empty: bool = False) -> tuple[Term, ...]:
    """Return the terms of a query after validating them.

    Args:
        terms: The terms.
        may_be_empty: True if nothing needs to say what pictures should look like, because there are
            filters.

    Raises:
        InvalidQueryError: There are no terms, only negative ones, or too many; a term is empty; a
            weight is out of range; or a picture is both liked and disliked.
    """
    is_listing = may_be_empty and Query(tuple(terms)).is_listing
    if not terms and not is_listing:
        raise InvalidQueryError("The query is empty.", _EXAMPLE)
    for term in terms:
        _check_term(term)
    clicked = [term for term in terms if term.picture is not None]
    if not is_listing and not any(term.weight > 0 for term in terms):
        raise InvalidQueryError(
            "The query only says what pictures should not look like.",
            Hint("Also describe them, or give one that is right: {}", "like=[ID]", "--like ID")
            if clicked
            else "Also say what they should look like: street -people",
        )
    num_others = len(terms) - len(clicked)
    if num_others > MAX_TERMS:
        raise InvalidQueryError(f"The query has {num_others} terms; {MAX_TERMS} are allowed.")
    _check_clicks(clicked)
    return tuple(terms)


def _check_term(term: Term) -> None:
    if not 0 < abs(term.weight) <= MAX_WEIGHT:
        raise InvalidQueryError(
            f"The weight must be above 0 and at most {MAX_WEIGHT:g}, got {abs(term.weight):g}.",
            'Write a weight before a term: "2:golden retriever + snow"',
        )
    has_image = any(source is not None for source in (term.image, term.picture, term.url))
    if not has_image and not (term.text or "").strip():
        raise InvalidQueryError("A term of the query is empty.", _EXAMPLE)


def _check_clicks(clicked: Sequence[Term]) -> None:
    if len(clicked) > MAX_CLICKS:
        raise InvalidQueryError(
            f"The query names {len(clicked)} pictures; {MAX_CLICKS} are allowed.",
            "Leave out the oldest ones.",
        )
    liked = {term.picture for term in clicked if term.weight > 0}
    for term in clicked:
        if term.weight < 0 and term.picture in liked:
            raise InvalidQueryError(
                f"Picture {term.picture} is both liked and disliked.", "Leave one of them out."
            )


def check_request(request: SearchRequest) -> SearchRequest:
    """Return a request after checking everything that does not depend on the index.

    Raises:
        InvalidQueryError: The terms are invalid, k is below 1, a minimum is not finite, or the
            sort order is unknown.
        SourceError: The query names a picture by its URL.
    """
    check_terms(request.query.terms, may_be_empty=bool(request.query.filters))
    reject_urls(request.query.terms)
    check_sort(request.sort)
    if request.k < 1:
        raise InvalidQueryError(
            f"k must be at least 1, got {request.k}.",
            Hint("Ask for at least one hit: {}", "k=10", "-k 10"),
        )
    for name, minimum in (("score", request.min_score), ("confidence", request.min_confidence)):
        if minimum is not None and not math.isfinite(minimum):
            raise InvalidQueryError(f"The minimum {name} is {minimum}.", "Use a finite number.")
    return request


def format_query(terms: Sequence[Term]) -> str:
    """Return terms as one line, as a person would write them."""
    line = ""
    for term in terms:
        weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}:"
        sign = " - " if term.weight < 0 else " + "
        line += f"{sign}{weight}{_format_term(term)}"
    return line.removeprefix(" + ").strip()


def quote_text(text: str) -> str:
    """Return a line of the query language that searches for a text literally."""
    text = text.strip()
    try:
        is_literal = not text or parse_query(text) == (Term(text),)
    except InvalidQueryError:
        is_literal = False
    if is_literal:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    # The leading space matters: even a quoted path would name a file without it.
    return f'" {escaped}"'


def _format_term(term: Term) -> str:
    if term.picture is not None:
        return f"picture {term.picture}"
    if term.url is not None:
        return f"image:{display_path(term.url)}"
    return (term.text or "") if term.image is None else display_path(term.image)


@dataclass
class _PartialTerm:
    """A term whose words are still being collected."""

    sign: float = 1.0
    weight: float = 1.0
    words: list[str] = field(default_factory=list)
    literal_words: list[str] = field(default_factory=list)

    def close(self) -> Iterator[Term]:
        if self.words:
            text, weight = " ".join(self.words), self.sign * self.weight
            yield Term(text, weight=weight, literal_words=tuple(self.literal_words))


def _parse_terms(text: str) -> Iterator[Term]:
    """Yield terms in the order in which they end.

    A picture or a word with its own sign does not end the term around it.
    """
    current = _PartialTerm()
    for match in _TOKEN.finditer(text):
        if match["operator"]:
            yield from current.close()
            current = _PartialTerm(sign=-1.0 if match["operator"] == "-" else 1.0)
            continue
        words = _unquote(match)
        if not words.strip():
            raise InvalidQueryError("A term of the query is empty.", _EXAMPLE)
        weight = float(match["weight"][:-1]) if match["weight"] else None
        # A space after the quotation mark is that of `quote_text`, for texts of programs.
        literal_words = [words] if match["quoted"] and words[0] != " " else []
        if _PATH.match(words) or _URL.match(words):
            sign = current.sign if match["sign"] is None else _sign_factor(match["sign"])
            term_weight = current.weight if weight is None else weight
            yield _image_term(words, sign * term_weight)
        elif match["sign"]:
            yield Term(
                words, weight=_sign_factor(match["sign"]) * (1.0 if weight is None else weight)
            )
        elif weight is not None:
            yield from current.close()
            current = _PartialTerm(current.sign, weight, [words], literal_words)
        else:
            current.words.append(words)
            current.literal_words += literal_words
    yield from current.close()


def _image_term(words: str, weight: float) -> Term:
    if match := _URL.match(words):
        return Term(url=words[match.end() :], weight=weight)
    return Term(image=expand_user(words.removeprefix("image:")), weight=weight)


def _unquote(match: re.Match[str]) -> str:
    quoted = match["quoted"]
    return re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match["word"]


def _sign_factor(sign: str) -> float:
    return -1.0 if sign == "-" else 1.0
