"""Subtitles: the lines of files beside films, and the languages that their names say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.texts import decode, make_texts
from mmsearch.core.types import Text, TextSource

SUBTITLE_SUFFIXES: Final = (b".ass", b".srt", b".ssa", b".vtt")
"""File name suffixes of subtitles."""

MAX_LINES: Final = 20_000
"""Number of lines of a film that are read: the first ones."""

KIND: Final = "subtitle"
"""Kind of the texts."""

_MAX_S: Final = 1e6
_TAGS: Final = re.compile(r"\{[^}]*\}|<[^>]*>")
_BREAKS: Final = re.compile(r"\\[Nnh]|\n")
# Drones write the state of their camera beside their films, as subtitles.
_TELEMETRY: Final = re.compile(r"FrameCnt|SrtCnt|\[iso ?:|GPS ?\(|HOME ?\(", re.IGNORECASE)
_MARKS: Final = frozenset({"cc", "default", "forced", "full", "hi", "sdh"})
_TAG: Final = re.compile(r"[a-z]{2}(?:[-_][a-z]{2,4})?", re.IGNORECASE)
_PAIRS: Final = """
    ara:ar bul:bg cat:ca ces:cs chi:zh cze:cs dan:da deu:de dut:nl ell:el eng:en est:et fas:fa
    fin:fi fra:fr fre:fr ger:de gre:el heb:he hin:hi hrv:hr hun:hu ice:is ind:id isl:is ita:it
    jpn:ja kor:ko lav:lv lit:lt may:ms msa:ms nld:nl nor:no per:fa pol:pl por:pt ron:ro rum:ro
    rus:ru slk:sk slo:sk slv:sl spa:es srp:sr swe:sv tha:th tur:tr ukr:uk vie:vi zho:zh
"""
_CODES: Final = dict(pair.split(":") for pair in _PAIRS.split())
"""Codes of languages with two letters, by those with three."""


def to_language(code: str | None) -> str | None:
    """Return a BCP 47 tag, given the code of a container or of a file name; None if unknown."""
    code = (code or "").strip()
    if code.lower() in _CODES:
        return _CODES[code.lower()]
    return code.replace("_", "-") if _TAG.fullmatch(code) else None


def split_name(name: str) -> tuple[str, str | None]:
    """Return the name of a film and a language, given that of its subtitles without its suffix.

    ``film.en`` and ``film.en.forced`` belong to ``film``; ``film`` has no language.
    """
    stem, dot, last = name.rpartition(".")
    if dot and last.lower() in _MARKS:
        return split_name(stem)
    language = to_language(last) if dot and stem else None
    return (stem, language) if language is not None else (name, None)


def make_line(
    words: str, start_s: float, end_s: float, source: TextSource, language: str | None
) -> Iterator[Text]:
    """Yield a line as a text with its time in milliseconds, unless there are no words in it."""
    if not 0 <= start_s < _MAX_S or not start_s <= end_s < 2 * _MAX_S:
        return
    for text in make_texts(KIND, _TAGS.sub("", _BREAKS.sub(" ", words)), source, language):
        yield replace(text, start_ms=round(start_s * 1000), end_ms=round(end_s * 1000))


def parse_subtitles(content: bytes, path: bytes) -> tuple[Text, ...]:
    """Return the lines of a file of subtitles, in the order of their times.

    Args:
        content: The content of the file.
        path: Its path, whose name may say the language.

    Raises:
        DecodeError: It cannot be read; the message is a clause with the reason.
    """
    try:
        import pysubs2  # noqa: PLC0415 - few films have such files
    except ModuleNotFoundError as error:
        raise DecodeError("it needs the extra 'video' (pip install '.[video]')") from error

    stem, suffix = os.path.splitext(os.path.basename(os.fsdecode(path)))  # noqa: PTH119, PTH122
    language = split_name(stem)[1]
    words = decode(content).replace("\0", "")
    if _TELEMETRY.search(words[:2000]):
        return ()
    formats = {".vtt": "vtt", ".srt": "srt", ".ass": "ass", ".ssa": "ssa"}
    try:
        events = pysubs2.SSAFile.from_string(words, format_=formats[suffix.lower()])
    except Exception as error:
        raise DecodeError("it is not a file of subtitles") from error
    lines = [
        line
        for event in events[:MAX_LINES]
        if not event.is_comment
        for line in make_line(
            event.plaintext, event.start / 1000, event.end / 1000, TextSource.SIDECAR, language
        )
    ]
    return tuple(sorted(lines, key=lambda line: (line.start_ms or 0, line.end_ms or 0)))


def share_lines(
    lines: Sequence[Text], spans: Sequence[tuple[float, float]]
) -> Iterator[tuple[Text, ...]]:
    """Yield the lines of each span: those that start in it, and those to which it is the nearest.

    Args:
        lines: Lines with their times.
        spans: Start and end of each span in milliseconds; at least one, in the order of time.
    """
    shares: list[list[Text]] = [[] for _ in spans]
    for line in lines:
        start_ms = line.start_ms or 0
        distances = [max(start - start_ms, start_ms - end + 1, 0) for start, end in spans]
        shares[distances.index(min(distances))].append(line)
    return (tuple(share) for share in shares)
