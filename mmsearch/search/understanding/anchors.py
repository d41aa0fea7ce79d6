"""First look at a query: without these words or a digit it has no date.

The grammar is imported only for the other queries; its import takes longer than a search.
"""

from __future__ import annotations

import re
from typing import Final

from mmsearch.search.understanding.folding import fold_word

_WORDS = """
    january february march april may june july august september october november december
    januar janner jaenner februar marz maerz mai juni juli oktober dezember
    janvier fevrier mars avril juin juillet aout septembre octobre novembre decembre
    enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre
    diciembre gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre
    last past previous letzte letzten letzter letztes letztem vorige vorigen voriger voriges
    vorigem vergangene vergangenen vergangener vergangenes vergangenem dernier derniere derniers
    dernieres passe passee pasado pasada pasados pasadas ultimo ultima ultimos ultimas scorso scorsa
    scorsi scorse passato passata ultimi ultime vorletzte vorletzten vorletzter vorletztes
    vorletztem antepasado antepasada penultimo penultima
    this diese diesen dieser dieses diesem ce cet cette este esta questo questa quest heuer
    today yesterday heute gestern vorgestern hier aujourd hoy ayer anteayer antier antes oggi ieri
    ago vor il hace fa
    anoche stamattina stamane stasera tonight
    fifties sixties seventies eighties nineties funfzigern funfziger sechzigern sechziger siebzigern
    siebziger achtzigern achtziger neunzigern neunziger cinquante soixante quatre cincuenta sesenta
    setenta ochenta noventa cinquanta sessanta settanta ottanta novanta
"""

ANCHORS: Final = frozenset(_WORDS.split())
"""Folded words, one of which is in every date without a digit."""

_SEPARATOR: Final = re.compile(r"[\W_]+")


def split_folded(text: str) -> list[str]:
    """Return the folded words of a text, without marks."""
    return _SEPARATOR.split(fold_word(text))


def may_have_date(text: str, words: list[str]) -> bool:
    """Return True if a text may have a date.

    Args:
        text: The text.
        words: Its words; see `split_folded`.
    """
    return any(char.isdigit() for char in text) or not ANCHORS.isdisjoint(words)


_ABBREVIATION: Final = re.compile(
    r"\b(?:LA|L\.\s?A|US|U\.\s?S|SF|S\.\s?F|NY|N\.\s?Y|DC|GB|HK|NZ|KL|BCN|EEUU|EE\.?\s?UU"
    r"|E\.\s?U|U\.\s?K|U\.\s?A\.\s?E)\b"
)


def has_abbreviation(text: str) -> bool:
    """Return True if a text has an abbreviation of a place in capitals, such as *LA*."""
    return _ABBREVIATION.search(text) is not None
