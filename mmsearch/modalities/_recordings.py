"""Recordings: their length, what they say about themselves, and how loud they are.

FFmpeg, which PyAV contains, reads many formats, and some of them name other files or addresses. So
the formats are limited to those of recordings, and FFmpeg reads from the open file alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmsearch.core.errors import DecodeError
from mmsearch.core.texts import make_texts
from mmsearch.core.types import ItemLocator, Metadata, Picture, Pixels, TextItem, TextSource
from mmsearch.modalities._damage import END_MISSING
from mmsearch.modalities._pillow import make_thumbnail
from mmsearch.modalities._video.heads import is_film

if TYPE_CHECKING:
    import av

ITEM_S: Final = 60
"""Length of an item in seconds; the last one is half to one and a half as long."""

MAX_ITEMS: Final = 24 * 60
"""Maximum number of items of a sound: a day."""

FORMATS: Final = "wav,w64,mp3,ogg,matroska,mov,flac,aac,aiff,caf,amr,asf"
"""Names that FFmpeg gives the formats of recordings; ``mov`` is that of .m4a, ``asf`` of .wma."""

SAMPLE_RATES: Final = range(4_000, 768_001)
"""Sample rates that are drawn; a resampler takes much memory for others."""

_HEADS: Final = re.compile(
    rb"RIFF....WAVE|riff\x2e\x91\xcf\x11|ID3[\x02-\x04]|fLaC|OggS|FORM....AIF[CF]|caff\0\x01|#!AMR"
    rb"|....ftypM4[ABP] ",
    re.DOTALL,
)
_NAMES: Final = {"mov": "M4A", "matroska": "MKA", "asf": "WMA", "w64": "WAV"}
_WITH_LENGTH: Final = ("mov", "matroska", "flac", "wav", "w64", "aiff", "caf", "asf")
"""Formats that say their length; that of the others is an estimate."""

_OPTIONS: Final = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
_MISSING_END_S: Final = 3.0
_MAX_TIME_S: Final = 1e6

_DRAWN_RATE: Final = 8_000
_BARS: Final = 96
_BACKGROUND: Final = (244, 245, 247)
_FOREGROUND: Final = (66, 103, 150)
_MIN_LOUDNESS: Final = 0.05
"""Peak below which a sound is drawn as quiet as it is."""


def is_sound(head: bytes) -> bool:
    """Return True if the first bytes of a file are those of a sound, but not of a film, too."""
    return _HEADS.match(head) is not None


def iter_items(file: BufferedReader, head: bytes, first_part: int) -> Iterator[TextItem]:
    """Yield the minutes of a sound in order; the first one has the texts of the file.

    Args:
        file: The open file.
        head: Its first bytes.
        first_part: Part of the first item.

    Raises:
        DecodeError: No sound can be read; the message is a clause with the reason.
    """
    with _open_recording(file, head) as recording:
        length_ms, damage = recording.measure()
        metadata = recording.read_metadata()
        whole = Picture(0, 0, recording.format, damage=damage, **vars(metadata))
    rest = replace(whole, damage=None, texts=())
    for part, (start_ms, end_ms) in enumerate(split(length_ms)):
        if part >= first_part:
            yield TextItem(rest if part else whole, ItemLocator(part, start_ms, end_ms))


def draw_item(
    file: BufferedReader, head: bytes, edge_px: int, file_format: str, locator: ItemLocator
) -> bytes:
    """Return an image file of the waveform of an item, ``edge_px`` wide and half as high.

    Raises:
        DecodeError: The item cannot be read; the message is a clause with the reason.
    """
    if locator.part and locator.start_ms is None:
        raise DecodeError(f"it has no part {locator.part + 1}")
    start_ms = locator.start_ms or 0
    end_ms = locator.end_ms or start_ms + 1000 * ITEM_S
    with _open_recording(file, head) as recording:
        peaks = recording.read_peaks(start_ms / 1000, end_ms / 1000)
    return make_thumbnail(draw_waveform(peaks, edge_px), edge_px, file_format)


def split(length_ms: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each item of a sound in milliseconds."""
    item_ms = 1000 * ITEM_S
    count = min(max(1, round(length_ms / item_ms)), MAX_ITEMS)
    for part in range(count):
        yield part * item_ms, max(length_ms, 1) if part == count - 1 else (part + 1) * item_ms


def draw_waveform(peaks: np.ndarray, width: int) -> Pixels:
    """Return a picture of the loudness of a sound, uint8 (width / 2, width, 3).

    Args:
        peaks: float (n,), the peak of each of equal parts of the sound, 0 to 1.
        width: Width in pixels.
    """
    height = max(width // 2, 1)
    loudness = peaks / max(float(peaks.max(initial=0.0)), _MIN_LOUDNESS)
    columns = np.arange(width) * len(peaks) / width
    half_heights = np.maximum(loudness[columns.astype(int)] * 0.45 * height, 0.5)
    # A third of each part is the space between two bars.
    is_bar = columns % 1 < 2 / 3
    distance = np.abs(np.arange(height) + 0.5 - height / 2)
    is_drawn = is_bar & (distance[:, None] <= half_heights)
    return np.where(is_drawn[..., None], _FOREGROUND, _BACKGROUND).astype(np.uint8)


@contextmanager
def _open_recording(file: BufferedReader, head: bytes) -> Iterator[_Recording]:
    """Open a recording and close it.

    Raises:
        DecodeError: It is not a recording, or has no sound.
    """
    import av  # noqa: PLC0415 - only decode workers need it
    import av.error  # noqa: PLC0415

    file.seek(0)
    try:
        container = av.open(file, "r", options=dict(_OPTIONS), metadata_errors="replace")
    # A damaged header raises errors of Python, too.
    except (av.error.FFmpegError, ValueError, IndexError, EOFError) as error:
        is_known = is_sound(head) or is_film(head)
        reason = "a sound that is damaged or of which the end is missing"
        raise DecodeError(
            f"it is {reason}" if is_known else "it is not a sound in a known format"
        ) from error
    with container:
        stream = container.streams.best("audio")
        if stream is None:
            raise DecodeError("there is no sound in it")
        yield _Recording(container, stream, head)


@dataclass(frozen=True)
class _Recording:
    """An open recording.

    Args:
        container: Its container.
        stream: Its sound track.
        head: The first bytes of the file.
    """

    container: Any
    stream: Any
    head: bytes

    @property
    def format(self) -> str:
        """Short name of the format, such as ``M4A``."""
        name: str = self.container.format.name.partition(",")[0]
        if name == "ogg" and self.stream.codec_context is not None:
            return "OPUS" if self.stream.codec_context.name.endswith("opus") else "OGG"
        if name == "matroska" and b"webm" in self.head:
            return "WEBM"
        return _NAMES.get(name, name.upper())

    def measure(self) -> tuple[int, str | None]:
        """Return the length in milliseconds and what is wrong with the sound, or None.

        All packets are counted, since lengths in headers are often estimates. Only the first ones
        are decoded.

        Raises:
            DecodeError: Nothing can be decoded.
        """
        end_s, counted_s, is_readable = 0.0, 0.0, False
        max_s = float(MAX_ITEMS * ITEM_S)
        for packet in self._packets():
            if not is_readable:
                is_readable = any(frame.samples for frame in _decode(packet))
            if packet.time_base is None:
                continue
            length_s = float((packet.duration or 0) * packet.time_base)
            counted_s += length_s
            start_s = counted_s if packet.pts is None else float(packet.pts * packet.time_base)
            if abs(start_s) < _MAX_TIME_S:
                end_s = max(end_s, start_s + length_s)
            if is_readable and end_s > max_s:
                return round(max_s * 1000), "only its first 24 hours are read"
        if not is_readable:
            raise DecodeError("there is no sound in it that can be read")
        return round(end_s * 1000), END_MISSING if self._is_shortened(end_s) else None

    def _is_shortened(self, end_s: float) -> bool:
        """Return True if a header says that the sound is longer."""
        says_length = self.container.format.name.partition(",")[0] in _WITH_LENGTH
        length = self.container.duration if says_length else None
        return length is not None and length / 1e6 > end_s + _MISSING_END_S

    def read_peaks(self, start_s: float, end_s: float) -> np.ndarray:
        """Return the loudness between two times: float64 (n,), the peaks of equal parts.

        Raises:
            DecodeError: There is no sound at these times.
        """
        import av  # noqa: PLC0415 - only decode workers need it
        import av.error  # noqa: PLC0415

        peaks = np.zeros(_BARS)
        is_empty = True
        if start_s and self.stream.time_base:
            try:
                self.container.seek(int(start_s / self.stream.time_base), stream=self.stream)
            except (av.error.FFmpegError, OverflowError) as error:
                raise DecodeError("there is no sound at this time") from error
        resampler = av.AudioResampler(format="flt", layout="mono", rate=_DRAWN_RATE)
        for frame in self._frames():
            time_s = frame.time if frame.time is not None else 0.0
            if time_s >= end_s:
                break
            if frame.sample_rate not in SAMPLE_RATES:
                raise DecodeError(f"it has {frame.sample_rate:,} samples per second")
            frame.pts = None
            try:
                blocks = [block.to_ndarray().reshape(-1) for block in resampler.resample(frame)]
            except (av.error.FFmpegError, ValueError):
                # A stream may change its layout, which a resampler does not take.
                continue
            samples = np.nan_to_num(np.concatenate([np.zeros(0), *blocks]))
            times = time_s + np.arange(len(samples)) / _DRAWN_RATE
            bars = ((times - start_s) / (end_s - start_s) * _BARS).astype(int)
            is_inside = (times >= start_s) & (times < end_s)
            np.maximum.at(peaks, bars[is_inside].clip(0, _BARS - 1), np.abs(samples[is_inside]))
            is_empty &= not is_inside.any()
        if is_empty:
            raise DecodeError("there is no sound at this time")
        return peaks.clip(0, 1)

    def _frames(self) -> Iterator[av.AudioFrame]:
        for packet in self._packets():
            yield from _decode(packet)

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the sound track up to the first that cannot be read."""
        import av.error  # noqa: PLC0415 - only decode workers need it

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                return
            yield packet

    def read_metadata(self) -> Metadata:
        """Return what the file says about the sound."""
        from mmsearch.modalities._texts.dates import (  # noqa: PLC0415 - only decode workers
            Precision,
            Role,
            parse_date,
            utc_to_local,
        )
        from mmsearch.modalities._texts.facts import Facts, merge  # noqa: PLC0415

        pairs = (*self.stream.metadata.items(), *self.container.metadata.items())
        tags = {key.lower(): str(value) for key, value in pairs if value}

        def first(*names: str) -> str:
            return next((tags[name] for name in names if tags.get(name)), "")

        facts = Facts()
        written = first("creation_time", "date", "year", "tyer", "tdrc")
        made_at = parse_date(written)
        if made_at is not None and made_at.precision == Precision.SECOND and written.endswith("Z"):
            made_at = utc_to_local(made_at)
        # Clocks that were never set start in these years.
        if made_at is not None and made_at.start.year not in (1904, 1970):
            facts.add_date(Role.ORIGINAL, "sound", made_at)
        for kind, names in (
            ("title", ("title",)),
            ("author", ("artist", "album_artist", "author", "composer")),
            ("description", ("album", "show")),
            ("description", ("description", "comment", "synopsis")),
        ):
            facts.texts += make_texts(kind, first(*names), TextSource.METADATA)
        facts.keywords += re.split("[,;/]", first("genre", "keywords"))
        return merge([facts], TextSource.METADATA)


def _decode(packet: Any) -> list[Any]:
    """Return the frames of a packet; none if it is damaged."""
    import av.error  # noqa: PLC0415 - only decode workers need it

    try:
        return list(packet.decode())
    except (av.error.FFmpegError, ValueError):
        return []
