"""Language of a query, which several rules look at."""

from __future__ import annotations

from functools import lru_cache

from mmsearch.core.language import OtherLanguage, score_other_language


@lru_cache(maxsize=64)
def query_language(text: str) -> OtherLanguage:
    """Return the most probable language of a query besides English, and how probable it is."""
    return score_other_language(text)
