"""Words for the starter's eleven colours in the languages of its second text tower."""

# ruff: noqa: RUF001 - letters of many languages

from __future__ import annotations

import re
from functools import cache
from typing import Final

_GERMAN: Final = "(?:e|er|es|en|em)?"
_RUSSIAN: Final = "(?:ый|ой|ая|ое|ые|ого|ому|ую|ым|ом|ых|ыми)"
_SOFT: Final = "(?:ий|яя|ее|ие|его|ему|ей|юю|им|ем|их|ими)"
_NOT_A_FLOWER: Final = "".join(
    rf"(?<!\b{article} )"
    for article in ("una", "unas", "la", "las", "une", "les", "des", "uma", "umas", "a", "as")
)

WORDS: Final = {
    "black": "schwarz{g}|zwarte?|noire?s?|negr[oa]s?|ner[oaie]|pret[oa]s?|ч[её]рн{r}",
    "white": "wei(?:ß|ss){g}|wit(?:te)?|blanc(?:he)?s?|blanc[oa]s?|bianc(?:[oa]|h[ie])"
    "|branc[oa]s?|бел{r}",
    "grey": "grau{g}|silbern{g}|grij(?:s|ze)|zilveren|gris(?:e|es)?|argentée?s?|platead[oa]s?"
    "|grigi[oae]?"
    "|cinzas?|cinzent[oa]s?|сер{r}|серебрян{r}",
    "red": "rot{g}|rood|rode|rouges?|roj[oa]s?|ross[oaie]|vermelh[oa]s?|красн{r}|ал{r}",
    "orange": "orange(?:s|n?e[rsnm]?)?|oranje|naranjas?|anaranjad[oa]s?|arancion[ei]|laranjas?"
    "|оранжев{r}",
    "yellow": "gelb{g}|golden{g}|geel|gele|gouden|jaunes?|dorée?s?|amarill[oa]s?|dorad[oa]s?"
    "|giall[oaie]"
    "|dorat[oaie]|amarel[oa]s?|dourad[oa]s?|ж[её]лт{r}|золот{r}",
    "green": "grün{g}|gruen{g}|türkis{g}|groene?|verte?s?|verdes?|verdi|зел[её]н{r}",
    "blue": "blau{g}|türkis{g}|blauwe?|bleue?s?|azul(?:es)?|azuis|blu|azzurr[oaie]|celestes?"
    "|голуб{r}|син{s}",
    "purple": "lila|violett{g}|paarse?|violet(?:te)?s?|morad[oa]s?|púrpura|violetas?|viola"
    "|rox[oa]s?"
    "|фиолетов{r}|лилов{r}",
    "pink": "{f}rosas?|{f}roses?|pinke?[nrs]?|roze|розов{r}",
    "brown": "braun{g}|bruine?|brune?s?|marrons?|marron[ei]|marr[oó]n(?:es)?|marrom"
    "|castañ[oa]s?|castanh[oa]s?"
    "|коричнев{r}|бур{r}",
}  # fmt: skip
"""Pattern of the forms of each colour's words in languages with spaces, in lower case."""

CHARACTERS: Final = {
    "black": "黒(?!板)|黑(?!板|猩|暗)",
    "white": "白(?!鳥|菜|熊|鹭|天(?!鹅))",
    "grey": "灰|グレー|銀色|银色",
    "red": "赤(?!ちゃ|ん坊|道|外)|[红紅](?!薯|绿灯|綠燈|萝卜|酒|茶|十字)",
    "orange": "オレンジ|橙(?!子|汁)|橘[色红紅]",
    "yellow": "[黄黃](?!身|瓜|油|昏|河|豆)|金色",
    "green": "緑|[绿綠](?!茶)",
    "blue": "青(?!年|少年|森|蛙|椒|菜)|[蓝藍](?!莓|牙)|水色|空色",
    "purple": "紫(?!陽花)",
    "pink": "ピンク|桃色|粉[红紅色]",
    "brown": "茶色|褐|棕(?!榈|櫚)|咖啡色",
}
"""Pattern of each colour's words in Japanese and Chinese."""

_SHADES: Final = "(?:hell|dunkel|himmel|knall|schnee|licht|donker)?"


def find_colours(text: str) -> list[int]:
    """Return the columns of the colours that a text names, as `COLOURS` orders them."""
    text = text.lower()
    return [column for column, pattern in enumerate(_patterns()) if pattern.search(text)]


@cache
def _patterns() -> list[re.Pattern[str]]:
    forms = {"g": _GERMAN, "r": _RUSSIAN, "s": _SOFT, "f": _NOT_A_FLOWER}
    return [
        re.compile(rf"\b{_SHADES}(?:{words.format_map(forms)})\b|{CHARACTERS[colour]}")
        for colour, words in WORDS.items()
    ]
