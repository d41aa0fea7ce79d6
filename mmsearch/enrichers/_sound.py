"""Decoding of sound: the bytes of a recording as samples for a recognizer.

FFmpeg, which PyAV contains, reads many formats, and some of them name other files or addresses:
a text in the format ``ffconcat`` makes it read its neighbours. So the formats are limited to those
of recordings, and nothing may be opened by name: the content is passed in memory.

The functions are for a worker process: a decoder written in C reads what anyone may have made.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DecodeError
from mmsearch.core.speech import SAMPLE_RATE

FORMATS: Final = "wav,w64,mp3,ogg,matroska,mov,flac,aac,aiff,caf,amr"
"""Names that FFmpeg gives the formats of recordings; ``mov`` is that of .mp4 and .m4a, too."""

SAMPLE_RATES: Final = range(4_000, 768_001)
"""Sample rates of recordings; a resampler takes much memory for others."""

_OPTIONS: Final = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
_UNREADABLE: Final = "it is not a recording in a known format"


def decode_sound(content: bytes, max_s: float) -> NDArray[np.float32]:
    """Decode a recording as float32 (n,) at 16 kHz in mono, with values from -1 to 1.

    Damaged packets are left out.

    Args:
        content: Content of a sound file, or of a film with a sound track.
        max_s: Maximum length in seconds.

    Raises:
        DecodeError: The content is not a recording, or there is no sound in it, or too much.
    """
    if not content:
        raise DecodeError("it is empty")
    try:
        with av.open(io.BytesIO(content), "r", options=dict(_OPTIONS)) as container:
            if not container.streams.audio:
                raise DecodeError("there is no sound in it")
            blocks = list(_limit(_read_blocks(container, container.streams.audio[0]), max_s))
    # A damaged header raises errors of Python, too.
    except (av.error.FFmpegError, ValueError, IndexError, EOFError) as error:
        raise DecodeError(_UNREADABLE) from error
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not len(samples):
        raise DecodeError("there is no sound in it that can be read")
    samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
    # The sum of two loud channels may be louder than 1.
    return samples / max(float(np.abs(samples).max()), 1.0)


def _limit(blocks: Iterator[NDArray[np.float32]], max_s: float) -> Iterator[NDArray[np.float32]]:
    count = 0
    for block in blocks:
        count += len(block)
        if count > max_s * SAMPLE_RATE:
            raise DecodeError(f"it is longer than {max_s:g} seconds")
        yield block


def _read_blocks(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[NDArray[np.float32]]:
    resampler: av.AudioResampler | None = None
    layout: tuple[object, ...] = ()
    for frame in _decode_frames(container, stream):
        if frame.sample_rate not in SAMPLE_RATES:
            raise DecodeError(f"it has {frame.sample_rate:,} samples per second")
        frame_layout = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or frame_layout != layout:
            # A resampler takes frames of one layout; a stream may change it.
            if resampler is not None:
                yield from _to_samples(resampler.resample(None))
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            layout = frame_layout
        # Only the samples count: times may jump, which would insert silence.
        frame.pts = None
        yield from _to_samples(resampler.resample(frame))
    if resampler is not None:
        yield from _to_samples(resampler.resample(None))


def _decode_frames(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            # The rest of a truncated file; what was read before counts.
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames


def _to_samples(frames: list[av.AudioFrame]) -> Iterator[NDArray[np.float32]]:
    for frame in frames:
        yield frame.to_ndarray().reshape(-1).astype(np.float32)
