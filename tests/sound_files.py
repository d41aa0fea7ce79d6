"""Sounds that tests make."""

from fractions import Fraction

import av
import numpy as np

RATE = 16_000


def tone(seconds, rate=RATE):
    """Return a tone as float32 samples."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype("f4")


def write_tone(path, seconds, **options):
    """Write a tone as a sound file; see `write_sound`."""
    write_sound(path, tone(seconds), **options)


def write_sound(path, samples, codec=None, rate=RATE, container_format=None, metadata=None):
    """Write float32 samples at 16 kHz as a sound file.

    Args:
        path: Path of the file; its suffix chooses the format.
        samples: The samples, from -1 to 1.
        codec: Encoder; that of the format by default.
        rate: Sample rate of the file.
        container_format: Format, if the suffix does not say it.
        metadata: Metadata of the container.
    """
    with av.open(str(path), "w", format=container_format) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec or container.default_audio_codec, rate=rate)
        stream.layout = "mono"
        stream.bit_rate = 64_000
        frame_size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.format.name, "mono", rate, frame_size)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = RATE
        count = 0
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            ready.pts, ready.time_base = count, Fraction(1, rate)
            count += ready.samples
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
