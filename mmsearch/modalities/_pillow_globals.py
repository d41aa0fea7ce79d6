"""Pillow's settings that are global to the process, set for the threads that decode pictures."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image, ImageFile


class _PillowGlobals:
    """Context manager that lifts Pillow's pixel limit and suppresses its warnings.

    Pillow's limit is lower than that of a modality. The settings belong to the host program: the
    first thread to enter saves them, and the last one to leave restores them. Whether truncated
    images are loaded is decided for each thread, because Pillow only asks for the truth value of
    its setting: in a thread that decodes no picture, it is that of the host program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active_count = 0
        self._saved_state = ExitStack()
        self._load_truncated: object = False
        self._threads = threading.local()

    def __bool__(self) -> bool:
        if getattr(self._threads, "depth", 0):
            return bool(getattr(self._threads, "is_tolerant", False))
        return bool(self._load_truncated)

    def __enter__(self) -> None:
        with self._lock:
            if not self._active_count:
                self._load_truncated = ImageFile.LOAD_TRUNCATED_IMAGES
                self._saved_state.callback(
                    setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS
                )
                self._saved_state.callback(
                    setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", self._load_truncated
                )
                self._saved_state.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                Image.MAX_IMAGE_PIXELS = None
                ImageFile.LOAD_TRUNCATED_IMAGES = self  # type: ignore[assignment]
            self._active_count += 1
        self._threads.depth = getattr(self._threads, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        self._threads.depth -= 1
        with self._lock:
            self._active_count -= 1
            if not self._active_count:
                self._saved_state.close()

    @contextmanager
    def tolerating_damage(self) -> Iterator[None]:
        """Let Pillow load truncated images in this thread, between entering and leaving."""
        self._threads.is_tolerant = True
        try:
            yield
        finally:
            self._threads.is_tolerant = False


pillow_globals = _PillowGlobals()
