"""Detection of voices in sound by Silero VAD, which is in faster-whisper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.speech import SAMPLE_RATE


def find_speech(
    samples: NDArray[np.float32], min_silence_ms: int = 2000, pad_ms: int = 400
) -> list[range]:
    """Return where somebody speaks in float32 (n,) samples at 16 kHz, as ranges of samples.

    Args:
        samples: The sound.
        min_silence_ms: Minimum length of a silence that separates two ranges, in milliseconds.
        pad_ms: Time before and after the speech that counts as part of it, in milliseconds.
    """
    from faster_whisper.vad import (  # noqa: PLC0415 - imports ONNX Runtime
        VadOptions,
        get_speech_timestamps,
    )

    options = VadOptions(min_silence_duration_ms=min_silence_ms, speech_pad_ms=pad_ms)
    return [range(span["start"], span["end"]) for span in get_speech_timestamps(samples, options)]


def find_cut(samples: NDArray[np.float32], search_s: float, min_silence_ms: int = 300) -> int:
    """Return the middle of the longest silence at the end of a sound; its end without one.

    Args:
        samples: float32 (n,) at 16 kHz.
        search_s: Length of the end in which a silence is searched, in seconds.
        min_silence_ms: Minimum length of a silence in milliseconds.
    """
    first = max(len(samples) - int(search_s * SAMPLE_RATE), 0)
    spans = find_speech(samples[first:], min_silence_ms, 0)
    if not spans:
        return len(samples)
    edges = [0, *(edge for span in spans for edge in (span.start, span.stop)), len(samples) - first]
    silences = list(zip(edges[::2], edges[1::2], strict=True))
    # The last one of equal length makes the longest window.
    start, stop = max(reversed(silences), key=lambda silence: silence[1] - silence[0])
    if stop - start < min_silence_ms * SAMPLE_RATE // 1000:
        return len(samples)
    return first + (start + stop) // 2
