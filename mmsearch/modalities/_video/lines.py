"""Lines of subtitles that are tracks of a film."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import av.error

from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.subtitles import MAX_LINES, make_line, to_language
from mmsearch.modalities._video.film import Film

_TEXT_CODECS: Final = frozenset({"ass", "mov_text", "srt", "ssa", "subrip", "text", "webvtt"})
_EVENT_FIELDS: Final = 8


class LineReader:
    """Reader of the lines of an open film.

    Args:
        film: The film.

    Attributes:
        streams: The tracks whose lines are texts.
        has_pictures: True if a track has pictures of lines, which are not read.
    """

    def __init__(self, film: Film) -> None:
        self._film = film
        tracks = film.container.streams.subtitles
        self.streams: list[Any] = [each for each in tracks if _name_codec(each) in _TEXT_CODECS]
        self.has_pictures = len(self.streams) < len(tracks)
        self._lines: dict[Text, None] = {}
        self._num_lines = 0

    def add(self, packet: Any) -> None:
        """Keep the lines of a packet of one of the tracks; none if it is damaged."""
        start_s = self._film.seconds_of(packet.pts, packet.time_base)
        if start_s is None or self._num_lines >= MAX_LINES:
            return
        end_s = start_s + float((packet.duration or 0) * packet.time_base)
        try:
            rects = packet.decode()
        except (av.error.FFmpegError, ValueError):
            return
        language = to_language(packet.stream.language)
        for rect in rects:
            event = getattr(rect, "ass", b"").decode("utf-8", "replace")
            words = event.split(",", _EVENT_FIELDS)[-1]
            for line in make_line(words, start_s, end_s, TextSource.SUBTITLES, language):
                self._lines[line] = None
                self._num_lines += 1

    def take(self, start_s: float, end_s: float) -> list[Text]:
        """Return the lines that start in a span, by their times, and forget those before its end.

        Their times are those of the clock of the film.
        """
        taken = sorted(
            (line for line in self._lines if (line.start_ms or 0) < end_s * 1000),
            key=lambda line: (line.start_ms or 0, line.end_ms or 0),
        )
        for line in taken:
            del self._lines[line]
        return [self._to_clock(line) for line in taken if (line.start_ms or 0) >= start_s * 1000]

    def _to_clock(self, line: Text) -> Text:
        start_ms = self._film.to_ms((line.start_ms or 0) / 1000)
        return replace(line, start_ms=start_ms, end_ms=self._film.to_ms((line.end_ms or 0) / 1000))


def _name_codec(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context is not None else ""
