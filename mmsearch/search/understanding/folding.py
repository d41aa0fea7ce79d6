"""The form in which words are compared."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence


def fold_word(text: str) -> str:
    """Return a text in lower case, without accents, with straight apostrophes."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(char for char in decomposed if not unicodedata.combining(char))
    # A mark alone, without its letter, stays.
    kept = kept or text
    return kept.replace("\u2019", "'").replace("\u2013", "-").replace("\u2014", "-")


def name_forms(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the forms in which folded words may be in a name: Annas Geburtstag, Juergen."""
    folded = tuple(words)
    yield folded
    forms = [folded]
    # German writes the genitive without an apostrophe: Annas Geburtstag.
    if folded[-1].endswith("s") and len(folded[-1]) > 3:
        forms.append((*folded[:-1], folded[-1][:-1]))
    yield from forms[1:]
    if any(digraph in word for word in folded for digraph in ("ae", "oe", "ue")):
        for form in forms:
            yield tuple(
                word.replace("ae", "a").replace("oe", "o").replace("ue", "u") for word in form
            )
