"""Locks that let the retrievers of an index search it from one thread at a time."""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

_locks: WeakKeyDictionary[object, threading.Lock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def index_lock(index: object) -> threading.Lock:
    """Return the lock to hold while using an index.

    There is one lock per index, because several retrievers may share an index.
    """
    with _locks_guard:
        return _locks.setdefault(index, threading.Lock())
