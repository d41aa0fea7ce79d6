"""One frame of each second of a film, decoding no more than that needs.

Packets wait until it is known whether a frame of them is needed: a second with a key frame needs
only that one, and what follows it is not decoded. Times are those of the frames, so the rate may
vary. Damaged packets are passed over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import av.error

from mmsearch.modalities._video.film import Film
from mmsearch.modalities._video.lines import LineReader

MAX_ERRORS: Final = 64
"""Number of errors in a row after which nothing more of a file is read."""

_MAX_WAITING_PACKETS: Final = 2000
_MAX_WAITING_BYTES: Final = 64_000_000
_MAX_FRAMES_TO_KEY: Final = 300


@dataclass(frozen=True)
class Sample:
    """A frame and its time.

    Attributes:
        time_s: Time in seconds since the start of the film.
        frame: The frame, as decoded.
    """

    time_s: float
    frame: Any

    @property
    def second(self) -> int:
        """The second that it stands for."""
        return math.floor(self.time_s)


class _Needs:
    """The seconds of which a frame is needed.

    Args:
        first_second: The first of them.
    """

    def __init__(self, first_second: int) -> None:
        # The last second that has a frame or for which one is to be decoded.
        self._last = first_second - 1
        self._later: list[int] = []
        self._times: deque[float] = deque()

    @property
    def is_open(self) -> bool:
        """True if packets must be decoded."""
        return bool(self._times)

    def add(self, time_s: float | None, *, is_key: bool) -> None:
        """Note the time of a packet. The key frame of a second is needed at once."""
        if is_key:
            self._later.clear()
        if time_s is None or (second := math.floor(time_s)) <= self._last:
            return
        if is_key:
            self._times.append(time_s)
            self._last = second
        elif second not in self._later:
            self._later.append(second)

    def pass_seconds_before(self, time_s: float | None) -> None:
        """Need the first frames of seconds that are over, in which there was no key frame."""
        if time_s is None or not self._later:
            return
        for second in sorted(self._later):
            if second > self._last and second + 1 <= time_s:
                self._times.append(float(second))
                self._last = second
        self._later = [second for second in self._later if second > self._last]

    def meet(self, time_s: float) -> bool:
        """Return True if a frame of a time is needed."""
        if not self._times or time_s < self._times[0]:
            return False
        second = math.floor(time_s)
        while self._times and math.floor(self._times[0]) <= second:
            self._times.popleft()
        self._last = max(self._last, second)
        return True


class SampleReader:
    """Reader of the frames of an open film.

    Args:
        film: The film.
        max_pixels: Limit of width times height of a frame; larger ones are passed over.

    Attributes:
        lines: The lines of subtitles in what has been read.
        num_damaged: Number of frames that could not be decoded, or only in part.
        end_s: End of what has been read, in seconds since the start.
        is_ended: True after the last packet.
    """

    def __init__(self, film: Film, max_pixels: int) -> None:
        self._film = film
        self._max_pixels = max_pixels
        self.lines = LineReader(film)
        self._waiting: deque[Any] = deque()
        self._waiting_bytes = 0
        self._is_started = False
        self.num_damaged = 0
        self.end_s = 0.0
        self.is_ended = False

    def read(self, first_second: int = 0) -> Iterator[Sample]:
        """Yield a frame of each second that has one, from a given second on.

        It is the first key frame of the second, or the first frame if there is no key frame.
        """
        if first_second or self._is_started:
            self._seek(first_second)
        needs = _Needs(first_second)
        for packet in self._iter_packets():
            time_s = self._film.time_of(packet)
            needs.pass_seconds_before(time_s)
            if packet.is_keyframe:
                yield from self._decode_waiting(needs)
                if self._waiting:
                    self._drop_waiting()
            needs.add(time_s, is_key=packet.is_keyframe)
            self._wait_for(packet)
            yield from self._decode_waiting(needs)
        self.is_ended = True
        needs.pass_seconds_before(math.inf)
        self._wait_for(None)
        yield from self._decode_waiting(needs)

    def read_near(self, start_s: float, end_s: float) -> Sample | None:
        """Return a frame of a span: the last key frame before its middle, or the first frame.

        None without one, or if too many frames would have to be decoded to reach it.
        """
        self._seek((start_s + end_s) / 2)
        num_frames = 0
        for packet in self._iter_packets():
            time_s = self._film.time_of(packet)
            for frame in self._decode(packet):
                frame_s = self._film.time_of(frame)
                num_frames += 1
                if frame_s is not None and start_s <= frame_s < end_s:
                    return Sample(frame_s, frame)
            if num_frames > _MAX_FRAMES_TO_KEY or (time_s is not None and time_s > end_s + 10):
                return None
        for frame in self._decode(None):
            frame_s = self._film.time_of(frame)
            if frame_s is not None and start_s <= frame_s < end_s:
                return Sample(frame_s, frame)
        return None

    def read_lines(self, start_s: float, end_s: float) -> None:
        """Read the lines of subtitles of a span, but no frames."""
        if self.lines.streams:
            self._seek(start_s)
            for packet in self._iter_packets():
                if (self._film.time_of(packet) or 0) >= end_s:
                    return

    def _seek(self, second: float) -> None:
        """Move to the last key frame at or before a second."""
        self._drop_waiting()
        self.is_ended = False
        stream = self._film.stream
        target = int((second + self._film.origin_s) / stream.time_base)
        try:
            self._film.container.seek(target, stream=stream)
        except av.error.FFmpegError:
            # Without an index, the frames before it are passed.
            self._film.container.seek(0)

    def _iter_packets(self) -> Iterator[Any]:
        self._is_started = True
        num_errors = 0
        while num_errors < MAX_ERRORS:
            try:
                for packet in self._film.container.demux(self._film.stream, *self.lines.streams):
                    num_errors = 0
                    if not packet.size:
                        continue
                    if packet.stream is not self._film.stream:
                        self.lines.add(packet)
                        continue
                    time_s = self._film.time_of(packet)
                    if time_s is not None:
                        length = float((packet.duration or 0) * self._film.stream.time_base)
                        self.end_s = max(self.end_s, time_s + min(length, 10.0))
                    yield packet
            except av.error.FFmpegError:
                num_errors += 1
                self.num_damaged += num_errors == 1
                continue
            return

    def _wait_for(self, packet: Any) -> None:
        self._waiting.append(packet)
        self._waiting_bytes += packet.size if packet else 0

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._film.stream.codec_context.flush_buffers()

    def _decode_waiting(self, needs: _Needs) -> Iterator[Sample]:
        """Decode packets that wait as long as there are needs; yield the frames that meet them."""
        while self._waiting and (needs.is_open or self._is_full()):
            packet = self._waiting.popleft()
            self._waiting_bytes -= packet.size if packet else 0
            for frame in self._decode(packet):
                time_s = self._film.time_of(frame)
                if time_s is not None and needs.meet(time_s):
                    yield Sample(time_s, frame)

    def _is_full(self) -> bool:
        count, size = len(self._waiting), self._waiting_bytes
        return count > _MAX_WAITING_PACKETS or size > _MAX_WAITING_BYTES

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames = self._film.stream.codec_context.decode(packet)
        except (av.error.FFmpegError, ValueError):
            self.num_damaged += 1
            return []
        self.num_damaged += sum(bool(frame.is_corrupt) for frame in frames)
        return [frame for frame in frames if frame.width * frame.height <= self._max_pixels]
