"""Films that tests make of pictures."""

from fractions import Fraction

import av
import numpy as np
from PIL import Image

FPS = 10


def picture(source, size):
    """Return a picture as uint8 (h, w, 3), given it, its path or a colour."""
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, tuple):
        return np.full((size[1], size[0], 3), source, np.uint8)
    image = source if isinstance(source, Image.Image) else Image.open(source)
    return np.asarray(image.convert("RGB").resize(size))


def frames(shots, seconds=6, size=(320, 180), fade_s=0, fps=FPS):
    """Yield the frames of a film that shows each picture for some seconds."""
    pictures = [picture(shot, size) for shot in shots]
    for shot, following in zip(pictures, [*pictures[1:], pictures[-1]], strict=True):
        for number in range(round(seconds * fps)):
            left = round(seconds * fps) - number
            share = max(0.0, 1 - left / (fade_s * fps)) if fade_s else 0.0
            yield (shot * (1 - share) + following * share).astype(np.uint8)


def write_film(path, shots, seconds=6, size=(320, 180), fade_s=0, **options):
    """Write a film that shows each picture for some seconds; see `write_frames`."""
    write_frames(path, frames(shots, seconds, size, fade_s, options.get("fps", FPS)), **options)


def write_frames(
    path,
    pictures,
    fps=FPS,
    codec="libx264",
    pix_fmt="yuv420p",
    metadata=None,
    encoder=None,
    times=None,
    prepare=lambda stream: None,
    muxer=None,
    container_format=None,
):
    """Write frames as a film.

    Args:
        path: Path of the film; its suffix chooses the format.
        pictures: The frames, uint8 (h, w, 3).
        fps: Frames a second.
        codec: Encoder.
        pix_fmt: Format of its frames.
        metadata: Metadata of the container.
        encoder: Options of the encoder.
        times: Times of the frames in seconds, for a variable rate.
        prepare: Called with the stream before the first frame.
        muxer: Options of the muxer.
        container_format: Format, if the suffix does not say it.
    """
    with av.open(str(path), "w", format=container_format, options=muxer or {}) as container:
        container.metadata.update(metadata or {})
        stream = None
        for number, pixels in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=fps)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.options = {"preset": "ultrafast", **(encoder or {})}
                prepare(stream)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times is not None:
                frame.time_base = Fraction(1, 1000)
                frame.pts = round(times[number] * 1000)
                stream.codec_context.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def add_lines(source, target, lines, codec="mov_text", language=None):
    """Copy a film with a track of subtitles.

    Args:
        source: Path of the film.
        target: Path of the copy.
        lines: Start and end in seconds, and the words.
        codec: Format of the track: ``mov_text``, ``subrip`` or ``ass``.
        language: Its language, as a code of three letters.
    """
    from av.subtitles.subtitle import SubtitleSet

    with av.open(str(source)) as film, av.open(str(target), "w") as copy:
        video = copy.add_stream_from_template(film.streams.video[0])
        track = copy.add_stream(codec)
        track.codec_context.subtitle_header = b"[Script Info]\n\n[Events]\n"
        if language:
            track.metadata["language"] = language
        packets = []
        for start, end, words in lines:
            event = f"0,0,Default,,0,0,0,,{words}".encode()
            line = SubtitleSet.create(event, 0, round((end - start) * 1000), round(start * 1e6))
            packet = track.codec_context.encode_subtitle(line)
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = round(start * 1000)
            packet.duration = round((end - start) * 1000)
            packets.append((start, packet))
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packets.append((float(packet.dts * packet.time_base), packet))
                packet.stream = video
        for _, packet in sorted(packets, key=lambda pair: pair[0]):
            copy.mux(packet)
