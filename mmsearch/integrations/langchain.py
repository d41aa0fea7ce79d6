"""Pictures as the documents of a LangChain retriever.

::

    from mmsearch.integrations.langchain import MMSearchRetriever

    retriever = MMSearchRetriever(source=mmsearch.open_index("holiday"), k=5)
    for document in retriever.invoke("a red car"):
        print(document.metadata["path"], document.page_content)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import ConfigDict, ValidationError, model_validator

from mmsearch.client import AsyncClient, Client, RemoteHit
from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.core.requests import Hit
from mmsearch.core.validation import validation_sentences
from mmsearch.integrations._batching import literally, query_of
from mmsearch.integrations._formatting import facts_of, told_by
from mmsearch.integrations._locks import turn_of
from mmsearch.integrations._options import check_options, check_source, check_text

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables.config import run_in_executor
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        "The retriever needs the Python package 'langchain-core', which is not installed.",
        "Install it with: pip install 'mmsearch[langchain]'",
    ) from missing


PER_CALL = ("k", "filters", "mode", "min_score", "min_confidence", "literal")
"""What a call may change: ``retriever.invoke("a red car", k=3)``."""


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
        literal: Take a text as the words that it is, whatever signs it holds: for questions that
            people or models write without knowing the query language.

    All of them but ``source`` can also be given to ``invoke`` and its like, for one call.

    Raises:
        UsageError: An argument is unknown or of a wrong type.
    """

    model_config = ConfigDict(extra="forbid")

    source: Any
    k: int = 10
    filters: Any = None
    mode: str | None = None
    min_score: float | None = None
    min_confidence: float | None = None
    literal: bool = False

    def __init__(self, **arguments: Any) -> None:
        try:
            super().__init__(**arguments)
        except ValidationError as error:
            raise UsageError(
                f"{validation_sentences(error.errors())}.",
                f"A retriever takes {', '.join(('source', *PER_CALL))}.",
            ) from error

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_source(self.source, self.filters)
        check_options(self.k, self.mode, self.min_score, self.min_confidence)
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **changes: Any
    ) -> list[Document]:
        return self._changed(changes)._search(query)  # noqa: SLF001 - of this class

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **changes: Any
    ) -> list[Document]:
        return await self._changed(changes)._asearch(query)  # noqa: SLF001 - of this class

    def _changed(self, changes: Mapping[str, Any]) -> Self:
        """Return the retriever with other options, for one call."""
        # LangChain's own argument comes along.
        given = {name: value for name, value in changes.items() if name != "verbose"}
        if not given:
            return self
        unknown = sorted(given.keys() - set(PER_CALL))
        if unknown:
            raise UsageError(
                f"A call of the retriever takes no {', '.join(unknown)}.",
                f"It takes {', '.join(PER_CALL)}.",
            )
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**own | given)

    async def _asearch(self, query: str) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            return self._documents(await self._ask(self.source, query))
        return await run_in_executor(None, self._search, query)

    def _search(self, query: str) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            raise UsageError(
                "An AsyncClient cannot be waited for.", "Call ainvoke(), or give a Client."
            )
        if isinstance(self.source, Client):
            return self._documents(self._ask(self.source, query))
        asked = query_of(
            self._line(query),
            filters=self.filters,
            mode=self.mode,
            instead="Ask the index itself: index.similar(FILE).",
        )
        with turn_of(self.source):
            return self._documents(
                self.source.search(
                    asked, self.k, min_score=self.min_score, min_confidence=self.min_confidence
                )
            )

    def _ask(self, client: Client | AsyncClient, query: str) -> Any:
        """The hits, or what is awaited for them."""
        return client.search(
            self._line(query),
            self.k,
            filters=self.filters,
            mode=self.mode,
            min_score=self.min_score,
            min_confidence=self.min_confidence,
        )

    def _line(self, query: str) -> str:
        check_text(query)
        return literally([query]) if self.literal else query

    def _documents(self, hits: Sequence[Hit | RemoteHit]) -> list[Document]:
        url = getattr(self.source, "url", "")
        return [document_of(hit, url) for hit in hits]


def document_of(hit: Hit | RemoteHit, url: str = "") -> Document:
    """A hit as a document.

    Args:
        hit: Of an index or of a server.
        url: The server's.
    """
    content = told_by(hit) if hit.matched is None else hit.matched.text
    return Document(id=str(hit.id), page_content=content, metadata=facts_of(hit, url))
