"""Creation of the parts that hear spoken questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmsearch.core import plugins
from mmsearch.core.settings import Settings
from mmsearch.core.speech import SpeechOptions
from mmsearch.core.threads import available_cpus
from mmsearch.search.listener import Listener, SoundTask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmsearch.core.enrichers import SpeechPlugin, SpeechRecognizer
    from mmsearch.core.protocols import Executor

RECOGNIZER = "whisper"
"""Plugin that recognizes speech."""

MAX_THREADS = 4
"""Maximum number of threads of a recognizer: more make a question of seconds hardly faster."""


def make_recognizer(settings: Settings) -> SpeechRecognizer:
    """Return the recognizer with the configured model.

    Raises:
        MissingExtraError: The extra ``speech`` is not installed.
        UnknownNameError: There is no such model.
        ModelUnavailableError: The model is not available.
    """
    plugin: SpeechPlugin = plugins.load("enrichers", RECOGNIZER)
    threads = min(available_cpus(), MAX_THREADS)
    return plugin.build(SpeechOptions(settings.speech_model, settings.cache, threads))


def make_listener(settings: Settings) -> Listener:
    """Return a listener, whose model and worker process start with the first question."""

    def make_executor() -> Executor:
        from mmsearch.executors import processes  # noqa: PLC0415 - arrays need no process

        return processes.build(1, settings.decode_timeout_s, settings.decode_memory_mb)

    return Listener(lambda: make_recognizer(settings), _make_decoder, make_executor)


def _make_decoder() -> Callable[[SoundTask], NDArray[np.float32]]:
    """Return the function that decodes sound, in the worker process."""
    from mmsearch.enrichers._sound import decode_sound  # noqa: PLC0415 - imports FFmpeg

    return lambda task: decode_sound(task.content, task.max_s)
