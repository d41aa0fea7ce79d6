"""Films, moment by moment, read with FFmpeg (extra ``video``).

One frame of each second is compared with the one before, which finds the shots; a frame from the
middle of each is its picture. Long shots have several moments. A film is read in units of at most
a minute, which do not depend on each other: reading can go on at any of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BufferedReader
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.types import (
    WHOLE,
    DecodedImage,
    ItemLocator,
    Metadata,
    Picture,
    Pixels,
    Text,
    TextItem,
)
from mmsearch.modalities._damage import END_MISSING
from mmsearch.modalities._pillow import make_thumbnail
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader
from mmsearch.modalities._recordings import draw_item, iter_items
from mmsearch.modalities._texts.subtitles import share_lines
from mmsearch.modalities._video.heads import is_film
from mmsearch.modalities._video.shots import (
    BLACK,
    FULL_S,
    MAX_MOMENTS,
    MOMENT_S,
    SMALL_HEIGHT,
    SMALL_WIDTH,
    find_spans,
    keep_longest,
)

if TYPE_CHECKING:
    from mmsearch.modalities._video.film import Film
    from mmsearch.modalities._video.frames import FrameScaler
    from mmsearch.modalities._video.samples import Sample, SampleReader

_SUFFIXES: Final = (
    "3g2 3gp asf avi divx f4v flv insv m2t m2ts m2v m4v mkv mov mp4 mpe mpeg mpg mts ogv qt vob"
    " webm wmv"
)


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of films.

    Args:
        max_pixels: Limit of width times height of a picture; films with larger ones are rejected.
    """
    return VideoModality(max_pixels)


@dataclass(frozen=True)
class VideoModality(FileReader):
    """Reads films; see `mmsearch.core.protocols.Modality`."""

    kind = "video"
    max_items = MAX_MOMENTS
    suffixes = frozenset(f".{suffix}".encode() for suffix in _SUFFIXES.split())
    package = "av"
    extra = "video"

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a film."""
        return is_film(head)

    def items(
        self, path: bytes, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[DecodedImage | TextItem]:
        """Yield the moments of a film in order, or the minutes of a sound in the container of one.

        The first moment, which stands for the film, is black if nothing else is there.

        Raises:
            DecodeError: No frame can be read; the message is a clause with the reason.
        """
        with self._open(path) as (file, head):
            from mmsearch.modalities._video.film import SoundOnlyError  # noqa: PLC0415 - FFmpeg

            try:
                yield from self._iter_moments(file, head, edge_px, first_part, known)
            except SoundOnlyError:
                count = max(MAX_MOMENTS - first_part, 0)
                yield from islice(iter_items(file, head, first_part), count)

    def _iter_moments(
        self, file: BufferedReader, head: bytes, edge_px: int, first_part: int, known: ItemLocator
    ) -> Iterator[DecodedImage]:
        from mmsearch.modalities._video.film import open_film  # noqa: PLC0415 - imports FFmpeg

        start = known if known.start_ms is not None else WHOLE
        with open_film(file, head, self.max_pixels) as film:
            reading = _Reading(film, self.max_pixels, edge_px)
            part = start.part
            for moment in reading.iter_moments(start):
                if part >= MAX_MOMENTS:
                    return
                if part >= first_part:
                    yield reading.make_item(moment, part)
                part += 1

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return an image file of a moment whose long side is at most ``edge_px`` pixels.

        Raises:
            DecodeError: The moment cannot be read; the message is a clause with the reason.
        """
        if locator.part and locator.start_ms is None:
            raise DecodeError(f"it has no moment {locator.part + 1}")
        with self._open(path) as (file, head):
            from mmsearch.modalities._video.film import (  # noqa: PLC0415 - imports FFmpeg
                SoundOnlyError,
                open_film,
            )

            try:
                with open_film(file, head, self.max_pixels) as film:
                    # The short side of the result is not known before a frame is there.
                    pixels = _Reading(film, self.max_pixels, 0).read_picture(locator)
            except SoundOnlyError:
                return draw_item(file, head, edge_px, file_format, locator)
        return make_thumbnail(pixels, edge_px, file_format)


@dataclass
class _Moment:
    """A moment of a film.

    Attributes:
        start_s: Its start in seconds since that of the film.
        end_s: Its end.
        pixels: Its picture.
        damage: What is wrong there, as clauses.
        lines: Lines of subtitles in it.
        size_px: Width and height of its frame.
    """

    start_s: float
    end_s: float
    pixels: Pixels
    size_px: tuple[int, int]
    damage: list[str] = field(default_factory=list)
    lines: tuple[Text, ...] = ()


@dataclass(frozen=True)
class _Frame:
    """A sample as pixels: its time, the picture, a small copy, and the size of the frame."""

    time_s: float
    pixels: Pixels
    small: Pixels
    size_px: tuple[int, int]


class _Reading:
    """The moments of an open film.

    Args:
        film: The film.
        max_pixels: Limit of width times height of a picture.
        edge_px: Minimum short side of the pictures; 0 for their own size.
    """

    def __init__(self, film: Film, max_pixels: int, edge_px: int) -> None:
        from mmsearch.modalities._video.frames import FrameScaler  # noqa: PLC0415
        from mmsearch.modalities._video.samples import SampleReader  # noqa: PLC0415

        self._lines_from_s = 0.0

        self._film = film
        self._edge_px = edge_px
        self._reader: SampleReader = SampleReader(film, max_pixels)
        self._scaler: FrameScaler = FrameScaler(film.stream.sample_aspect_ratio)
        self._metadata: Metadata = film.read_metadata()
        self._full_chunks = -(-FULL_S // film.chunk_s)

    def iter_moments(self, start: ItemLocator) -> Iterator[_Moment]:
        """Yield a moment, given where it is, and those that follow.

        Raises:
            DecodeError: The film has no frame that can be read.
        """
        start_ms = start.start_ms or 0
        start_s = max(0.0, self._film.to_seconds(start_ms)) if start_ms else 0.0
        is_empty = True
        # Locators are rounded to milliseconds.
        chunk = int((start_s + 0.001) // self._film.chunk_s)
        for moment in self._iter_chunks(chunk, is_first=start.part == 0):
            if self._film.to_ms(moment.start_s) >= start_ms:
                yield moment
                is_empty = False
        if is_empty and start.part == 0:
            raise DecodeError("none of its frames can be read")

    def make_item(self, moment: _Moment, part: int) -> DecodedImage:
        """Return a moment as an item."""
        texts = (*(self._metadata.texts if part == 0 else ()), *moment.lines)
        metadata = replace(self._metadata, texts=texts)
        picture = Picture(
            *moment.size_px,
            self._film.format,
            damage="; ".join(moment.damage) or None,
            **vars(metadata),
        )
        start_ms, end_ms = self._film.to_ms(moment.start_s), self._film.to_ms(moment.end_s)
        return DecodedImage(
            picture, moment.pixels, ItemLocator(part, start_ms, max(end_ms, start_ms + 1))
        )

    def read_picture(self, locator: ItemLocator) -> Pixels:
        """Return the picture of a moment, uint8 (h, w, 3).

        Raises:
            DecodeError: There is no frame at its time.
        """
        start_s, end_s = 0.0, float(MOMENT_S)
        if locator.start_ms is not None:
            start_s = max(0.0, self._film.to_seconds(locator.start_ms))
            end_s = start_s + 1
            if locator.end_ms is not None:
                end_s = max(start_s + 0.001, self._film.to_seconds(locator.end_ms))
        black: Pixels | None = None
        # What follows the middle is nearly always enough.
        for second in dict.fromkeys([int((start_s + end_s) / 2), int(start_s)]):
            for sample in self._reader.read(second):
                if sample.time_s >= end_s:
                    break
                # Times in locators are rounded to milliseconds.
                if sample.time_s > start_s - 0.001:
                    frame = self._to_frame(sample)
                    if not _is_black(frame.small):
                        return frame.pixels
                    black = frame.pixels
        if black is None:
            raise DecodeError("there is no picture at this time")
        return black

    def _iter_chunks(self, chunk: int, *, is_first: bool) -> Iterator[_Moment]:
        """Yield the moments of a chunk and of those that follow.

        Args:
            chunk: Number of the chunk.
            is_first: True to yield a black moment if the first chunk with frames has no other.
        """
        chunk_s = self._film.chunk_s
        self._lines_from_s = float(chunk * chunk_s)
        if chunk < self._full_chunks:
            frames: list[_Frame] = []
            for sample in self._reader.read(chunk * chunk_s):
                next_chunk = sample.second // chunk_s
                if frames and next_chunk > chunk:
                    moments = self._find_moments(frames, sample.time_s, is_first=is_first)
                    yield from self._add_lines(moments, float(next_chunk * chunk_s))
                    is_first = is_first and not moments
                    frames = []
                chunk = next_chunk
                if chunk >= self._full_chunks:
                    break
                frames.append(self._to_frame(sample))
            if frames:
                end_s = max(self._reader.end_s, frames[-1].time_s + 0.001)
                moments = self._find_moments(frames, end_s, is_first=is_first)
                yield from self._add_lines(moments, math.inf)
            if self._reader.is_ended:
                return
        yield from self._read_sparsely(max(chunk, self._full_chunks))

    def _add_lines(self, moments: list[_Moment], end_s: float) -> Iterator[_Moment]:
        """Yield moments with the lines of subtitles that were read and start before a time.

        Without moments, the lines stay for the next ones.
        """
        if not moments:
            return
        lines = self._reader.lines.take(self._lines_from_s, end_s)
        self._lines_from_s = end_s
        to_ms = self._film.to_ms
        spans = [(to_ms(moment.start_s), to_ms(moment.end_s)) for moment in moments]
        for moment, own in zip(moments, share_lines(lines, spans), strict=True):
            yield replace(moment, lines=own)

    def _find_moments(self, frames: list[_Frame], end_s: float, *, is_first: bool) -> list[_Moment]:
        spans = find_spans(np.stack([frame.small for frame in frames]))
        bright = [span for span in spans if span.middle is not None]
        if is_first and not bright:
            bright = [replace(spans[0], middle=(spans[0].start + spans[0].end) // 2)]
        kept = keep_longest(bright, self._film.chunk_moments)
        damage = self._find_damage(len(bright) - len(kept), is_first=is_first)
        times = [*(frame.time_s for frame in frames), end_s]
        moments = []
        for span in kept:
            frame = frames[span.middle or 0]
            start_s, end_s = times[span.start], times[span.end]
            moments.append(_Moment(start_s, end_s, frame.pixels, frame.size_px, damage))
            damage = []
        return moments

    def _find_damage(self, num_left_out: int, *, is_first: bool) -> list[str]:
        """Return what is wrong with a chunk, and with the film if it is its first one."""
        damage = []
        count, self._reader.num_damaged = self._reader.num_damaged, 0
        if count:
            damage.append(f"{count:,} frame{'s are' if count > 1 else ' is'} damaged")
        if num_left_out:
            what = "short shots are" if num_left_out > 1 else "short shot is"
            damage.append(f"{num_left_out:,} {what} left out")
        if is_first and (self._film.duration_s or 0) > FULL_S:
            damage.append(f"only the first {FULL_S // 60} minutes are searched for shots")
        if is_first and self._reader.lines.has_pictures:
            damage.append("its subtitles are pictures, which are not read")
        if self._reader.is_ended and self._reader.end_s < self._film.pictures_end_s:
            damage.append(END_MISSING)
        return damage

    def _read_sparsely(self, chunk: int) -> Iterator[_Moment]:
        """Yield moments at equal distances, each with a key frame if there is one."""
        film = self._film
        count = max(1, min(film.chunk_moments, film.chunk_s // MOMENT_S))
        step_s = film.chunk_s / count
        end_s = film.duration_s or 0.0
        while (start_s := float(chunk * film.chunk_s)) < end_s:
            chunk += 1
            starts = [start_s + place * step_s for place in range(count)]
            found = [self._read_moment(each, min(each + step_s, end_s)) for each in starts]
            next_s = float(chunk * film.chunk_s)
            self._reader.read_lines(start_s, next_s)
            moments = [moment for moment in found if moment is not None]
            yield from self._add_lines(moments, next_s if next_s < end_s else math.inf)

    def _read_moment(self, start_s: float, end_s: float) -> _Moment | None:
        """Return a moment with a frame of a span; None without one, or if it is black."""
        sample = self._reader.read_near(start_s, end_s) if start_s < end_s else None
        if sample is None:
            return None
        frame = self._to_frame(sample)
        if _is_black(frame.small):
            return None
        damage = self._find_damage(0, is_first=False)
        return _Moment(start_s, end_s, frame.pixels, frame.size_px, damage)

    def _to_frame(self, sample: Sample) -> _Frame:
        pixels = self._scaler.scale(sample.frame, self._edge_px)
        return _Frame(
            sample.time_s, pixels, _shrink(pixels), self._scaler.upright_size(sample.frame)
        )


def _shrink(pixels: Pixels) -> Pixels:
    """Return a small copy of a picture, uint8 (`SMALL_HEIGHT`, `SMALL_WIDTH`, 3)."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((SMALL_WIDTH, SMALL_HEIGHT), Image.Resampling.BOX))


def _is_black(small: Pixels) -> bool:
    return int(small.max()) <= BLACK
