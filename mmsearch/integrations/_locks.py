"""Whose turn it is: an index is not for several threads at once, and frameworks use several."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

_locks: WeakKeyDictionary[object, threading.Lock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def index_lock(index: object) -> threading.Lock:
    """Held by who asks an index.

    It belongs to the index, for many retrievers may share one.
    """
    with _locks_guard:
        return _locks.setdefault(index, threading.Lock())
