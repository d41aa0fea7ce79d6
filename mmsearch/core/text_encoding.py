"""Encoding of a text file: by its byte order mark, by validity, then by the letters of languages.

Tables are often short, a dozen words with two or three letters beyond ASCII. Detectors that
compare letter statistics need more text than that. Here each candidate is judged by the letters
that a language has at all, and Windows-1252 wins where nothing speaks against it.
"""

# ruff: noqa: RUF001 - letters of many languages

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

SAMPLE_BYTES: Final = 8_000
"""Length of the lines with bytes beyond ASCII that decide the encoding, in bytes."""

_BLOCK_BYTES: Final = 1 << 20
_MIXED: Final = "mmsearch.windows-1252"
_BOMS: Final = (
    # The mark of UTF-32 begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


@dataclass(frozen=True)
class TextEncoding:
    """An encoding of a file.

    Attributes:
        codec: Name of the codec.
        label: Name for people: ``UTF-8``, ``Windows-1252``.
        errors: What replaces invalid bytes; see `codecs`.
    """

    codec: str
    label: str
    errors: str = "replace"


UTF_8: Final = TextEncoding("utf-8-sig", "UTF-8")
_PARTLY_UTF_8: Final = TextEncoding("utf-8-sig", "UTF-8 with parts in Windows-1252", _MIXED)


class _Language(NamedTuple):
    """Letters beyond ASCII of a language in one encoding, most frequent first.

    Attributes:
        codec: Name of the codec.
        label: Name of the encoding.
        letters: Lower-case letters.
        factor: Weight of the points; less than 1 for encodings that are rarer than Windows-1252.
    """

    codec: str
    label: str
    letters: str
    factor: float = 0.9


_WESTERN: Final = (
    "üäöß",
    "éèàêçœôîâûùëï",
    "óíáéñúü",
    "ãçáéíóõêâúàô",
    "àèòùìé",
    "åøæéö",
    "äåöé",
    "áíóéúðöæýþ",
    "éëïöüèó",
)
_CENTRAL: Final = (
    "łóąężśćńź",
    "íáéěýžřščůúťňďó",
    "áíéčýžšúľťňôďäóĺŕ",
    "áéőöóüíúű",
    "ăîâşţ",
    "čšžćđ",
)
_CYRILLIC: Final = ("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё", "оаинвіерлтскмудпяьзйбгюхжцшчїєщфґ")
# Several encodings can often explain the same bytes; the first one with the best score is chosen.
_LANGUAGES: Final = (
    *(_Language("cp1252", "Windows-1252", letters, 1.0) for letters in _WESTERN),
    *(_Language("cp1250", "Windows-1250", letters) for letters in _CENTRAL),
    *(_Language("cp1251", "Windows-1251", letters) for letters in _CYRILLIC),
    _Language("cp1254", "Windows-1254", "ıüşğçöiîâ"),
    _Language("cp1253", "Windows-1253", "αοιετσνηυρπκμλςίόάγέδήωχύθβφξώζψϊΐΰϋ"),
    _Language("cp1255", "Windows-1255", "יוהלאתרמבשנעדחקפםגכטזןסצךףץ"),
    _Language("cp1256", "Windows-1256", "اليمنرتوبةعدسفهكحقشجطصخءىئغضثذظآأإپچژگ"),
    _Language("cp1257", "Windows-1257", "āīšēžņļėąųūčęģķįõäöü"),
    *(_Language("iso8859_2", "ISO-8859-2", letters, 0.85) for letters in _CENTRAL),
    *(_Language("mac_roman", "Mac Roman", letters, 0.7) for letters in _WESTERN),
    *(_Language("cp850", "DOS-850", letters, 0.7) for letters in _WESTERN),
    *(_Language("cp866", "DOS-866", letters, 0.7) for letters in _CYRILLIC[:1]),
)
_ALL_WESTERN: Final = frozenset("".join(_WESTERN))
_FINAL_LETTERS: Final = frozenset("ςםןךףץ")
_SIGNS: Final = dict.fromkeys("“”‘’„‚«»‹›–—…•€©®™", 1.2) | dict.fromkeys(
    "·£¥º²³½¼¾§×¡¿±µ´`\xa0", 0.0
)
_SIGNS["°"] = 2.0
_APOSTROPHES: Final = frozenset("’´")


class _Script(NamedTuple):
    """A multi-byte encoding of an East Asian script.

    Attributes:
        codec: Name of the codec.
        label: Name of the encoding.
        leads: First and last of the first bytes of common characters.
        min_trail: Least second byte of common characters.
        frequent: Characters that almost every text has.
    """

    codec: str
    label: str
    leads: tuple[int, int]
    min_trail: int
    frequent: str


_KOREAN: Final = "cp949"
# Of these scripts, only Korean separates words by spaces.
_SPACED_SCRIPT: Final = re.compile("[^\\0-\x7f] [^\\0-\x7f]")
_SCRIPTS: Final = (
    _Script("cp932", "Shift-JIS", (0x88, 0x97), 0x40, "のにはをがとでた"),
    _Script(
        "gb18030",
        "GB18030",
        (0xB0, 0xD7),
        0xA1,
        "的一是在上人有和中大小个这不了水山海天花红白黑城狗猫车树男女孩街道路河湖",
    ),
    _Script(
        "big5",
        "Big5",
        (0xA4, 0xC6),
        0x40,
        "的一是在上人有和中大小個這不了水山海天花紅白黑城狗貓車樹男女孩街道路河湖",
    ),
    _Script(_KOREAN, "EUC-KR", (0xB0, 0xC8), 0xA1, "이가은는의에을를다한고기사자리로도지나있"),
)


def detect_encoding(path: Path) -> TextEncoding:
    """Return the encoding of a text file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    for bom, codec, label in _BOMS:
        if head.startswith(bom):
            return TextEncoding(codec, label)
    # Most characters of a table are ASCII, which UTF-16 writes with one zero byte each.
    for codec, zeros, others in (
        ("utf-16-le", head[1::2], head[::2]),
        ("utf-16-be", head[::2], head[1::2]),
    ):
        if zeros.count(0) > len(zeros) // 3 and others.count(0) <= len(others) // 20:
            return TextEncoding(codec, "UTF-16")
    if _is_utf_8(path):
        return UTF_8
    return guess_encoding(b"\n".join(_iter_sample_lines(path)))


def _is_utf_8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _iter_sample_lines(path: Path) -> Iterator[bytes]:
    """Yield lines with bytes beyond ASCII, up to `SAMPLE_BYTES` in total."""
    remaining = SAMPLE_BYTES
    with path.open("rb") as file:
        while remaining > 0 and (block := file.read(_BLOCK_BYTES)):
            if block.isascii():
                continue
            for line in re.split(rb"[\r\n]+", block):
                if not line.isascii():
                    yield line[:remaining]
                    remaining -= len(line)
                    if remaining <= 0:
                        return


def guess_encoding(sample: bytes) -> TextEncoding:
    """Return the most plausible encoding of bytes that are not valid UTF-8."""
    text = sample.decode("utf-8", "replace")
    valid = sum(char > "\x7f" and char != "\ufffd" for char in text)
    if valid > 4 * text.count("\ufffd"):
        return _PARTLY_UTF_8
    scores = [(_score_western(sample), TextEncoding("cp1252", "Windows-1252"))]
    words_by_codec: dict[str, str] = {}
    for language in _LANGUAGES:
        decoded = words_by_codec.setdefault(
            language.codec, sample.decode(language.codec, "replace")
        )
        score = _score_letters(decoded, language.letters) * language.factor
        scores.append((score, TextEncoding(language.codec, language.label)))
    scores += [
        (_score_script(sample, script) * 0.9, TextEncoding(script.codec, script.label))
        for script in _SCRIPTS
    ]
    return max(scores, key=lambda scored: scored[0])[1]


def _score_western(sample: bytes) -> float:
    """Return the score of several western languages together, less than that of one."""
    return _score_letters(sample.decode("cp1252", "replace"), "".join(sorted(_ALL_WESTERN))) * 0.5


def _score_letters(text: str, letters: str) -> float:
    """Return the sum of points for the characters beyond ASCII of a text.

    A letter of the language gives about one point, and so does a quotation mark or a dash where one
    may stand. Anything else costs two, such as a sign in a word or a capital after a small letter.
    """
    weights = {char: 1.2 - 0.5 * at / len(letters) for at, char in enumerate(letters)}
    is_latin = letters[0] < "\u0250"
    points = 0.0
    before = " "
    for char, after in zip(text, text[1:] + " ", strict=True):
        neighbors = before, after
        if char <= "\x7f":
            points -= char.isupper() and before > "\x7f" and before.islower()
        elif char.lower() in weights:
            is_misplaced = (
                (before.islower() and char.isupper())
                or (char in _FINAL_LETTERS and after.isalpha())
                or (not is_latin and any(c.isascii() and c.isalpha() for c in neighbors))
            )
            weight = weights[char.lower()]
            if not any(c.isalpha() for c in neighbors):
                weight *= 0.3
            points += -2 if is_misplaced else weight
        elif char in _SIGNS:
            is_inside = before.isalpha() and after.isalpha() and char not in _APOSTROPHES
            is_misplaced = (
                is_inside
                or any(c in _SIGNS for c in neighbors)
                or (char == "°" and before.isalpha())
            )
            points += -2 if is_misplaced else _SIGNS[char]
        else:
            points -= 2
        before = char
    return points


def _score_script(sample: bytes, script: _Script) -> float:
    """Return the sum of points of the characters of two bytes; common ones give two points."""
    text = sample.decode(script.codec, "replace")
    points = 0.0
    if script.codec != _KOREAN:
        points -= len(_SPACED_SCRIPT.findall(text))
    before = " "
    for char in text:
        if (before > "\x7f") != (char > "\x7f"):
            points -= 2 * (before.isalpha() and char.isalpha()) + before.isdigit()
        before = char
        if char <= "\x7f":
            continue
        lead, *trail = char.encode(script.codec, "replace")
        if char == "\ufffd" or not trail:
            points -= 2
        elif "\u3040" <= char <= "\u30ff" or char in script.frequent:
            points += 2.5
        elif script.leads[0] <= lead <= script.leads[1] and trail[0] >= script.min_trail:
            points += 2
        elif char.isalpha():
            points += 0.5
    return points


def _decode_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_MIXED, _decode_windows_1252)
