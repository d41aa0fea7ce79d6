"""Decoding of sound: a recording or the sound track of a film as samples for a recognizer.

FFmpeg, which PyAV contains, reads many formats, and some of them name other files or addresses:
a text in the format ``ffconcat`` makes it read its neighbours. So the formats are limited to those
of recordings and films, and nothing may be opened by name: FFmpeg gets a file that is open already.

The functions are for a worker process: a decoder written in C reads what anyone may have made.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DecodeError
from mmsearch.core.speech import SAMPLE_RATE, SoundBlock

FORMATS: Final = "wav,w64,mp3,ogg,matroska,mov,flac,aac,aiff,caf,amr,asf,avi,mpegts,mpeg,flv"
"""Names that FFmpeg gives the formats of recordings and films; ``mov`` is that of .mp4 and .m4a,
too, and ``asf`` that of .wma and .wmv."""

SAMPLE_RATES: Final = range(4_000, 768_001)
"""Sample rates of recordings; a resampler takes much memory for others."""

PREROLL_S: Final = 1.0
"""Seconds that are decoded before the first sample: a decoder needs some packets to be right."""

MIN_GAP_S: Final = 0.25
"""Seconds by which a frame has to be late to follow a gap, which is filled with silence."""

MAX_GAP_S: Final = 3600.0
"""Length in seconds above which a gap is an error in the times of the file, which is ignored."""

MAX_TIME_S: Final = 10_000_000.0
"""Time in seconds from which on the times of a file are ignored."""

_CLOCKS_OF_STREAMS: Final = ("mpegts", "mpeg")
"""Formats whose clock starts anywhere; players count from the start of the file."""

_OPTIONS: Final = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
_NO_SOUND: Final = "there is no sound in it"
_NO_SAMPLES: Final = "there is no sound in it that can be read"
_UNREADABLE: Final = "it is not a recording in a known format"
_SILENCE: Final = np.zeros(10 * SAMPLE_RATE, np.float32)


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
    with _open(io.BytesIO(content)) as (container, stream):
        if stream is None:
            raise DecodeError(_NO_SOUND)
        blocks = list(_limit(_resample(_decode_frames(container, stream)), max_s))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not len(samples):
        raise DecodeError(_NO_SAMPLES)
    # The sum of two loud channels may be louder than 1.
    return samples / max(float(np.abs(samples).max()), 1.0)


def read_sound(file: BinaryIO, from_ms: int = 0) -> Generator[SoundBlock]:
    """Yield the sound track of a file in blocks, each of which begins where the former one ends.

    Times are those of the container, or, in streams, since its start, as for its pictures. Damaged
    packets and gaps are silence. Memory does not grow with the length. There is no block if the
    file has no sound track, or if the track ends before ``from_ms``.

    Args:
        file: The file, open for reading.
        from_ms: Time from which on the sound is read, in milliseconds.

    Raises:
        DecodeError: The content is not a recording, or its sound cannot be read.
    """
    has_samples = False
    for block in _read_from(file, max(from_ms, 0)):
        has_samples = True
        yield block
    if not has_samples and from_ms <= 0 and _has_stream(file):
        raise DecodeError(_NO_SAMPLES)


def _read_from(file: BinaryIO, from_ms: int) -> Iterator[SoundBlock]:
    if from_ms:
        with _open(file) as (container, stream):
            origin_s = _origin_s(container)
            first = _seek(container, stream, from_ms / 1000 + origin_s)
            if first is not None and stream is not None:
                frames = chain([first], _decode_frames(container, stream))
                yield from _place(frames, from_ms, origin_s)
                return
    # Without times, the samples are counted from the start of the file.
    with _open(file) as (container, stream):
        if stream is not None:
            yield from _place(_decode_frames(container, stream), from_ms, _origin_s(container))


def _origin_s(container: av.container.InputContainer) -> float:
    """Return the time of a container, in seconds, at which the clock of its file is at zero."""
    start = container.start_time
    is_stream = container.format.name in _CLOCKS_OF_STREAMS
    return start / av.time_base if is_stream and start is not None else 0.0


def _has_stream(file: BinaryIO) -> bool:
    with _open(file) as (_, stream):
        return stream is not None


@contextmanager
def _open(
    file: BinaryIO,
) -> Iterator[tuple[av.container.InputContainer, av.AudioStream | None]]:
    """Open a recording and its main sound track; errors of FFmpeg become `DecodeError`."""
    try:
        file.seek(0)
        with av.open(file, "r", options=dict(_OPTIONS), metadata_errors="replace") as container:
            stream = container.streams.best("audio")
            yield container, stream if isinstance(stream, av.AudioStream) else None
    # A damaged header raises errors of Python, too.
    except (av.error.FFmpegError, ValueError, IndexError, EOFError) as error:
        raise DecodeError(_UNREADABLE) from error


def _seek(
    container: av.container.InputContainer, stream: av.AudioStream | None, time_s: float
) -> av.AudioFrame | None:
    """Return the first frame after a jump to a time before ``time_s``; None if it is later."""
    if stream is None or not stream.time_base:
        return None
    target = int(max(time_s - PREROLL_S, 0) / stream.time_base)
    try:
        container.seek(target, stream=stream)
    except (av.error.FFmpegError, OverflowError):
        return None
    frame = next(_decode_frames(container, stream), None)
    if frame is None or frame.time is None or frame.time > time_s:
        return None
    return frame


def _place(frames: Iterator[av.AudioFrame], from_ms: int, origin_s: float) -> Iterator[SoundBlock]:
    """Yield the samples of frames at their times, with silence in the gaps between them."""
    first = from_ms * SAMPLE_RATE // 1000
    for start, samples in _fill_gaps(frames, origin_s):
        late = first - start
        if late < len(samples):
            own = samples[max(late, 0) :]
            yield SoundBlock(max(start, first) * 1000 // SAMPLE_RATE, own)


def _fill_gaps(
    frames: Iterator[av.AudioFrame], origin_s: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the samples of frames, each with the number of samples before it."""
    position: int | None = None
    time_s: float | None = None

    def note_times() -> Iterator[av.AudioFrame]:
        nonlocal time_s
        for frame in frames:
            time_s = None if frame.time is None else frame.time - origin_s
            yield frame

    for samples in _resample(note_times()):
        has_time = time_s is not None and abs(time_s) < MAX_TIME_S
        start = round(time_s * SAMPLE_RATE) if has_time and time_s is not None else position
        if position is None:
            position = start or 0
        elif start is not None and MIN_GAP_S < (start - position) / SAMPLE_RATE < MAX_GAP_S:
            while position < start:
                silence = _SILENCE[: start - position]
                yield position, silence
                position += len(silence)
        yield position, samples
        position += len(samples)


def _limit(blocks: Iterator[NDArray[np.float32]], max_s: float) -> Iterator[NDArray[np.float32]]:
    count = 0
    for block in blocks:
        count += len(block)
        if count > max_s * SAMPLE_RATE:
            raise DecodeError(f"it is longer than {max_s:g} seconds")
        yield block


def _resample(frames: Iterator[av.AudioFrame]) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of frames as float32 (n,) at 16 kHz in mono, without what is not finite."""
    resampler: av.AudioResampler | None = None
    layout: tuple[object, ...] = ()
    for frame in frames:
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
        samples = frame.to_ndarray().reshape(-1).astype(np.float32)
        yield np.nan_to_num(samples, copy=False, posinf=0.0, neginf=0.0)
