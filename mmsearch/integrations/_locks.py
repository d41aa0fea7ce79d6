"""Whose turn it is: an index is not for several threads at once, and frameworks use several."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

_turns: WeakKeyDictionary[object, threading.Lock] = WeakKeyDictionary()
_turns_lock = threading.Lock()


def turn_of(index: object) -> threading.Lock:
    """Held by who asks an index.

    It belongs to the index, for many retrievers may share one.
    """
    with _turns_lock:
        return _turns.setdefault(index, threading.Lock())
