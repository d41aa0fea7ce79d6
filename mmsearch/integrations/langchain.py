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
from mmsearch.core.validation import format_validation_errors
from mmsearch.integrations._batching import build_query, escape_query
from mmsearch.integrations._formatting import hit_metadata, hit_text
from mmsearch.integrations._locks import index_lock
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


CALL_OPTIONS = ("k", "filters", "mode", "min_score", "min_confidence", "literal")
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
                f"{format_validation_errors(error.errors())}.",
                f"A retriever takes {', '.join(('source', *CALL_OPTIONS))}.",
            ) from error

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_source(self.source, self.filters)
        check_options(self.k, self.mode, self.min_score, self.min_confidence)
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        return self._with_overrides(overrides)._search(query)  # noqa: SLF001 - of this class

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        return await self._with_overrides(overrides)._asearch(query)  # noqa: SLF001 - of this class

    def _with_overrides(self, overrides: Mapping[str, Any]) -> Self:
        """Return the retriever with other options, for one call."""
        # LangChain's own argument comes along.
        options = {name: value for name, value in overrides.items() if name != "verbose"}
        if not options:
            return self
        unknown = sorted(options.keys() - set(CALL_OPTIONS))
        if unknown:
            raise UsageError(
                f"A call of the retriever takes no {', '.join(unknown)}.",
                f"It takes {', '.join(CALL_OPTIONS)}.",
            )
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**current | options)

    async def _asearch(self, query: str) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            return self._to_documents(await self._search_remote(self.source, query))
        return await run_in_executor(None, self._search, query)

    def _search(self, query: str) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            raise UsageError(
                "An AsyncClient cannot be waited for.", "Call ainvoke(), or give a Client."
            )
        if isinstance(self.source, Client):
            return self._to_documents(self._search_remote(self.source, query))
        parsed_query = build_query(
            self._query_text(query),
            filters=self.filters,
            mode=self.mode,
            hint="Ask the index itself: index.similar(FILE).",
        )
        with index_lock(self.source):
            return self._to_documents(
                self.source.search(
                    parsed_query,
                    self.k,
                    min_score=self.min_score,
                    min_confidence=self.min_confidence,
                )
            )

    def _search_remote(self, client: Client | AsyncClient, query: str) -> Any:
        """The hits, or what is awaited for them."""
        return client.search(
            self._query_text(query),
            self.k,
            filters=self.filters,
            mode=self.mode,
            min_score=self.min_score,
            min_confidence=self.min_confidence,
        )

    def _query_text(self, query: str) -> str:
        check_text(query)
        return escape_query([query]) if self.literal else query

    def _to_documents(self, hits: Sequence[Hit | RemoteHit]) -> list[Document]:
        url = getattr(self.source, "url", "")
        return [to_document(hit, url) for hit in hits]


def to_document(hit: Hit | RemoteHit, url: str = "") -> Document:
    """A hit as a document.

    Args:
        hit: Of an index or of a server.
        url: The server's.
    """
    content = hit_text(hit) if hit.matched is None else hit.matched.text
    return Document(id=str(hit.id), page_content=content, metadata=hit_metadata(hit, url))
