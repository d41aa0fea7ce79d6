"""The desks of a server, by the names of their indexes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mmsearch import api
from mmsearch.core.errors import UnknownIndexError
from mmsearch.server.batcher import WAITING, Desk


class Desks:
    """The desks of all indexes that are served, opened when they are first asked.

    Args:
        open_index: An index by name.
        names: What is served now, by name.
        waiting: See `Desk`.
    """

    def __init__(
        self,
        open_index: Callable[[str], api.Index],
        names: Callable[[], list[str]],
        waiting: int = WAITING,
    ) -> None:
        self._open_index = open_index
        self._names = names
        self._waiting = waiting
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The indexes that are served."""
        return self._names()

    def opened(self) -> list[Desk]:
        """Those that anyone has asked."""
        return list(self._desks.values())

    def desk(self, name: str) -> Desk:
        """The desk of an index.

        Raises:
            UnknownIndexError: It is not served.
        """
        with self._lock:
            desk = self._desks.get(name)
            if desk is None:
                if name not in self._names():
                    raise UnknownIndexError(
                        f"There is no index {name!r} here.", "GET /v1/indexes lists them."
                    )
                desk = self._desks[name] = Desk(self._open_index(name), self._waiting)
            return desk

    def close(self) -> None:
        """Close them all; none opens again."""
        with self._lock:
            self._names = list
            opened = self.opened()
        for desk in opened:
            desk.close()
