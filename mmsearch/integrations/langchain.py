"""Pictures as the documents of a LangChain retriever.

::

    from mmsearch.integrations.langchain import MMSearchRetriever

    retriever = MMSearchRetriever(source=mmsearch.open_index("holiday"), k=5)
    for document in retriever.invoke("a red car"):
        print(document.metadata["path"], document.page_content)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from mmsearch.client import AsyncClient, Client, RemoteHit
from mmsearch.core.display import display_path
from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.core.requests import Hit

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        "The retriever needs the Python package 'langchain-core', which is not installed.",
        "Install it with: pip install 'mmsearch[langchain]'",
    ) from missing

FACTS = (
    "id",
    "rank",
    "score",
    "visual",
    "text",
    "confidence",
    "width",
    "height",
    "format",
    "taken_at",
    "camera",
    "latitude",
    "longitude",
    "modified_at",
    "size_bytes",
)
"""Members of a hit that become metadata as they are."""

TELLING = ("title", "description", "caption")
"""Kinds of texts that tell what a picture shows."""


_turns: WeakKeyDictionary[object, threading.Lock] = WeakKeyDictionary()
_turns_lock = threading.Lock()


class MMSearchRetriever(BaseRetriever):
    """Finds pictures by describing them.

    A document's content is the text that speaks for its picture; without one, what is written of
    the picture; without that, its path. Its metadata are the members of the hit, and with a client
    the URLs ``original`` and ``thumbnail``.

    Attributes:
        source: A `mmsearch.Index`, which is asked by one thread after the other; a
            `mmsearch.Client`; or a `mmsearch.AsyncClient`, for ``ainvoke`` and its like alone.
        k: How many documents at most.
        filters: As the source's ``search`` takes them.
        mode: ``vector``, ``text`` or ``hybrid``; None: as the index has texts or not.
        min_score: Hits with a lower score are left out.
        min_confidence: Hits with a lower confidence are left out.
    """

    source: Any
    k: int = 10
    filters: Any = None
    mode: str | None = None
    min_score: float | None = None
    min_confidence: float | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            raise UsageError(
                "An AsyncClient cannot be waited for.", "Call ainvoke(), or give a Client."
            )
        if isinstance(self.source, Client):
            return self._documents(self.source.search(query, **self._asked()))
        with _turn(self.source):
            return self._documents(self.source.search(query, **self._asked()))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        if not isinstance(self.source, AsyncClient):
            return await super()._aget_relevant_documents(query, run_manager=run_manager)
        return self._documents(await self.source.search(query, **self._asked()))

    def _asked(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "filters": self.filters,
            "mode": self.mode,
            "min_score": self.min_score,
            "min_confidence": self.min_confidence,
        }

    def _documents(self, hits: Sequence[Hit | RemoteHit]) -> list[Document]:
        url = getattr(self.source, "url", "")
        return [document_of(hit, url) for hit in hits]


def document_of(hit: Hit | RemoteHit, url: str = "") -> Document:
    """A hit as a document.

    Args:
        hit: Of an index or of a server.
        url: The server's.
    """
    matched = hit.matched
    metadata: dict[str, Any] = {name: getattr(hit, name) for name in FACTS}
    metadata |= {
        "band": str(hit.band),
        "path": display_path(hit.path),
        "texts": [text.text for text in hit.texts],
        "matched": None if matched is None else matched.text,
    }
    if isinstance(hit, RemoteHit):
        links: Mapping[str, str] = hit.links
        metadata |= {name: f"{url}{links[name]}" for name in ("original", "thumbnail")}
    return Document(id=str(hit.id), page_content=_content(hit), metadata=metadata)


def _turn(index: object) -> threading.Lock:
    """Held by who asks an index: it is not for several threads at once, and batches use several.

    It belongs to the index: a retriever that is configured anew is another one.
    """
    with _turns_lock:
        return _turns.setdefault(index, threading.Lock())


def _content(hit: Hit | RemoteHit) -> str:
    if hit.matched is not None:
        return hit.matched.text
    told = dict.fromkeys(text.text for text in hit.texts if text.kind in TELLING)
    return "\n".join(told) or display_path(hit.path)
