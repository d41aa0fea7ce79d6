"""An open film: its pictures, what it says about itself, and the spans in which it is read.

FFmpeg, which PyAV contains, reads many formats, and some of them name other files or addresses: a
text in the format ``ffconcat`` makes it read its neighbours. So the formats are limited to those of
films, and nothing may be opened by name: FFmpeg reads from the open file alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from io import BufferedReader
from typing import Any, Final

import av
import av.error
from av.stream import Disposition

from mmsearch.core.errors import DecodeError
from mmsearch.core.texts import make_texts
from mmsearch.core.types import Metadata, TextSource
from mmsearch.modalities._texts.dates import Moment, Precision, Role, parse_date, utc_to_local
from mmsearch.modalities._texts.facts import Facts, join_camera, merge, to_position
from mmsearch.modalities._video.heads import is_film
from mmsearch.modalities._video.shots import FULL_S, MAX_MOMENTS

CHUNK_S: Final = 60
"""Seconds that are read as a unit; less for large pictures, so that a unit takes seconds."""

CHUNK_PIXELS: Final = 7.5e9
"""Number of pixels of a unit at most, as its size and rate say."""

FORMATS: Final = "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg"
"""Names that FFmpeg gives the formats of films; ``mov`` is that of .mp4, too."""

MISSING_END_S: Final = 3.0
"""Seconds without pictures at the end of a track of pictures that is cut off."""

MIN_RATE_TO_SKIP: Final = 20.0
"""Frames a second from which on frames that no other frame needs are not decoded.

Of 1080p with three of them in a row, a minute then takes 3.1 s of CPU time instead of 5.1; at lower
rates, a second might have none left."""

_OPTIONS: Final = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
_UNREADABLE: Final = "it is not a film in a known format"
_INCOMPLETE: Final = "it is a film that is damaged or of which the end is missing"
_CLOCKS_OF_STREAMS: Final = ("mpegts", "mpeg")
_DEFAULT_RATE: Final = 30.0
_MAX_S: Final = 1e6

_SHORT_NAMES: Final = {
    "avi": "AVI",
    "mpegts": "TS",
    "mpeg": "MPEG",
    "asf": "WMV",
    "flv": "FLV",
    "ogg": "OGV",
}
# ``+48.8577+002.2950+035.0/``, as ISO 6709 writes a position.
_ISO_6709: Final = re.compile(r"\s*([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)(?![\d.])")
_UNSET_YEARS: Final = (1904, 1970)
"""Years in which the clocks of containers start."""


class SoundOnlyError(Exception):
    """Signal that a file has a sound track and no pictures; its callers handle it."""


@dataclass(frozen=True)
class Film:
    """An open film.

    Args:
        container: Its container.
        stream: The stream of its pictures.
        head: The first bytes of the file.
    """

    container: Any
    stream: Any
    head: bytes

    @cached_property
    def origin_s(self) -> float:
        """Start of the film on the clock of its container, in seconds."""
        start = self.container.start_time
        seconds = start / av.time_base if start is not None else 0.0
        return seconds if abs(seconds) < _MAX_S else 0.0

    @cached_property
    def duration_s(self) -> float | None:
        """Length in seconds, as the container says; None if it does not."""
        duration = self.container.duration
        seconds = duration / av.time_base if duration is not None else 0.0
        return seconds if 0 < seconds < _MAX_S else None

    @property
    def pictures_end_s(self) -> float:
        """Time in seconds until which there must be pictures; 0 if it is not known."""
        if self.stream.duration is None:
            # The sound may be longer.
            return 0.9 * (self.duration_s or 0.0) - MISSING_END_S
        end = (self.stream.start_time or 0) + self.stream.duration
        return (self.seconds_of(end, self.stream.time_base) or 0.0) - MISSING_END_S

    @cached_property
    def chunk_s(self) -> int:
        """Seconds that are read as a unit."""
        rate = float(self.stream.average_rate or 0) or _DEFAULT_RATE
        context = self.stream.codec_context
        pixel_rate = max(1.0, context.width * context.height * rate)
        by_pixels = int(min(CHUNK_S, max(5.0, CHUNK_PIXELS / pixel_rate)))
        return max(by_pixels, int((self.duration_s or 0) / MAX_MOMENTS) + 1)

    @property
    def chunk_moments(self) -> int:
        """Number of moments of a unit at most."""
        share = MAX_MOMENTS * self.chunk_s / (self.duration_s or FULL_S)
        return max(1, min(self.chunk_s, int(share)))

    def to_ms(self, seconds: float) -> int:
        """Return a time since the start of the film as milliseconds on the film's clock.

        The clocks of transport and program streams start anywhere; players count from the start.
        """
        is_stream = self.container.format.name in _CLOCKS_OF_STREAMS
        return max(0, round((seconds + (0.0 if is_stream else self.origin_s)) * 1000))

    def to_seconds(self, milliseconds: int) -> float:
        """Return a time on the film's clock as seconds since its start."""
        is_stream = self.container.format.name in _CLOCKS_OF_STREAMS
        return milliseconds / 1000 - (0.0 if is_stream else self.origin_s)

    def time_of(self, part: Any) -> float | None:
        """Return the time of a packet or frame in seconds since the start; None if unknown."""
        stamp = part.pts if part.pts is not None else part.dts
        return self.seconds_of(stamp, self.stream.time_base)

    def seconds_of(self, stamp: int | None, time_base: Fraction | None) -> float | None:
        """Return a time of a stream in seconds since the start; None if it is not a time."""
        if stamp is None or time_base is None:
            return None
        seconds = float(stamp * time_base) - self.origin_s
        # Pictures before the start are those that an edit list leaves out.
        return max(0.0, seconds) if -_MAX_S < seconds < _MAX_S else None

    @property
    def format(self) -> str:
        """Short name of the format, such as ``MP4``."""
        name: str = self.container.format.name.partition(",")[0]
        if name == "matroska":
            return "WEBM" if b"webm" in self.head else "MKV"
        if name != "mov":
            return _SHORT_NAMES.get(name, name.upper())
        brand = self.head[8:12] if self.head[4:8] == b"ftyp" else b"qt  "
        return "MOV" if brand == b"qt  " else "3GP" if brand[:2] == b"3g" else "MP4"

    def read_metadata(self) -> Metadata:
        """Return what the film says about itself."""
        tags = {key.lower(): value for key, value in self.container.metadata.items()}

        def first(*names: str) -> str:
            return next((tags[name] for name in names if tags.get(name)), "")

        facts = Facts()
        made_at = _parse_time(
            first("com.apple.quicktime.creationdate", "creation_time", "date", "year")
        )
        facts.add_date(Role.ORIGINAL, "video", made_at)
        facts.camera = join_camera(
            first("com.apple.quicktime.make", "com.android.manufacturer", "make"),
            first("com.apple.quicktime.model", "com.android.model", "model"),
        )
        facts.position = _parse_position(
            first("com.apple.quicktime.location.iso6709", "location", "location-eng")
        )
        title = first("com.apple.quicktime.title", "title")
        description = first("com.apple.quicktime.description", "description", "comment")
        facts.texts += make_texts("title", title, TextSource.METADATA)
        facts.texts += make_texts("description", description, TextSource.METADATA)
        facts.keywords += re.split("[,;]", first("com.apple.quicktime.keywords", "keywords"))
        return merge([facts], TextSource.METADATA)


@contextmanager
def open_film(file: BufferedReader, head: bytes, max_pixels: int) -> Iterator[Film]:
    """Open a film and close it.

    Args:
        file: The open file.
        head: Its first bytes.
        max_pixels: Limit of width times height of a picture.

    Raises:
        SoundOnlyError: It has sound, but no pictures.
        DecodeError: It is not a film, or has no pictures, or too large ones.
    """
    try:
        container = av.open(file, "r", options=dict(_OPTIONS), metadata_errors="replace")
    # A damaged header raises errors of Python, too.
    except (av.error.FFmpegError, ValueError, IndexError, EOFError) as error:
        raise DecodeError(_INCOMPLETE if is_film(head) else _UNREADABLE) from error
    with container:
        covers = Disposition.attached_pic
        if not container.streams:
            raise DecodeError(_INCOMPLETE)
        streams = [each for each in container.streams.video if not each.disposition & covers]
        if not streams:
            if container.streams.audio:
                raise SoundOnlyError("it has sound, but no pictures")
            raise DecodeError("it has no pictures")
        stream: Any = streams[0]
        # None without a decoder.
        context = stream.codec_context
        if context is None or not context.width or not context.height:
            raise DecodeError("its pictures are in a format that is not supported")
        check_size(context.width, context.height, max_pixels)
        # The other processors have files of their own.
        context.thread_count = 1
        context.options = {"max_pixels": str(max_pixels)}
        if float(stream.average_rate or 0) >= MIN_RATE_TO_SKIP:
            context.skip_frame = "NONREF"
        yield Film(container, stream, head)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise DecodeError if a picture has too many pixels."""
    if width * height > max_pixels:
        raise DecodeError(
            f"{width * height / 1e6:.1f} megapixels, over the limit of {max_pixels / 1e6:g} "
            "(raise it with the setting max_pixels)"
        )


def _parse_time(text: str) -> Moment | None:
    """Return a date; one in UTC as local time of this machine."""
    moment = parse_date(text)
    if moment is None or moment.start.year in _UNSET_YEARS:
        return None
    is_utc = moment.precision == Precision.SECOND and text.rstrip().endswith("Z")
    return utc_to_local(moment) if is_utc else moment


def _parse_position(text: str) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees, as ISO 6709 writes them."""
    match = _ISO_6709.match(text)
    if match is None:
        return None
    latitude, longitude = float(match[1]), float(match[2])
    is_possible = abs(latitude) <= 90 and abs(longitude) <= 180
    return to_position(latitude, longitude) if is_possible else None
