"""The form in which words are compared."""

from __future__ import annotations

import unicodedata


def fold_word(text: str) -> str:
    """Return a text in lower case, without accents, with straight apostrophes."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(char for char in decomposed if not unicodedata.combining(char))
    # A mark alone, without its letter, stays.
    kept = kept or text
    return kept.replace("\u2019", "'").replace("\u2013", "-").replace("\u2014", "-")
