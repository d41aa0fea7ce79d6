"""LangChain retriever that returns pictures as documents.

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

from mmsearch.client import AsyncClient
from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.core.results import Hit
from mmsearch.core.validation import format_validation_errors
from mmsearch.integrations._common import (
    build_query,
    check_options,
    check_source,
    check_text,
    hit_metadata,
    hit_text,
)

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables.config import run_in_executor
except ModuleNotFoundError as missing:
    raise MissingExtraError.for_extra("The retriever", "langchain-core", "langchain") from missing


CALL_OPTIONS = ("k", "filters", "mode", "min_score", "min_confidence", "literal")
"""Options that a call may override: ``retriever.invoke("a red car", k=3)``."""


class MMSearchRetriever(BaseRetriever):
    """Retrieves pictures that match a description.

    The content of a document is the text that matched the query; without one, the descriptive texts
    of the picture; without these, its path. Its metadata are the attributes of the hit and, with a
    client, the URLs ``original`` and ``thumbnail``.

    Attributes:
        source: A `mmsearch.Index`; a `mmsearch.Client`; or a
            `mmsearch.AsyncClient`, for ``ainvoke`` and the other asynchronous methods only.
        k: Maximum number of documents.
        filters: Filters as for the source's ``search``.
        mode: ``vector``, ``text`` or ``hybrid``; None to choose by whether the index has texts.
        min_score: Minimum score of hits.
        min_confidence: Minimum confidence of hits.
        literal: True to take the text literally; False to read it as a line of the query language,
            which cannot name files here.

    All of them except ``source`` can also be passed to ``invoke`` and similar methods, for one
    call.

    Raises:
        UsageError: An argument is unknown or has the wrong type.
    """

    model_config = ConfigDict(extra="forbid")

    source: Any
    k: int = 10
    filters: Any = None
    mode: str | None = None
    min_score: float | None = None
    min_confidence: float | None = None
    literal: bool = True

    def __init__(self, **arguments: Any) -> None:
        try:
            super().__init__(**arguments)
        except ValidationError as error:
            raise UsageError(
                f"{format_validation_errors(error.errors())}.",
                f"A retriever accepts {', '.join(('source', *CALL_OPTIONS))}.",
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
        """Return a retriever with the options of one call."""
        # LangChain also passes an argument of its own, verbose.
        options = {name: value for name, value in overrides.items() if name != "verbose"}
        if not options:
            return self
        unknown = sorted(options.keys() - set(CALL_OPTIONS))
        if unknown:
            raise UsageError(
                f"A call of the retriever does not accept {', '.join(unknown)}.",
                f"It accepts {', '.join(CALL_OPTIONS)}.",
            )
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**current | options)

    async def _asearch(self, query: str) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            return self._to_documents(await self._find(query))
        return await run_in_executor(None, self._search, query)

    def _search(self, query: str) -> list[Document]:
        if isinstance(self.source, AsyncClient):
            raise UsageError(
                "An AsyncClient cannot be used synchronously.", "Call ainvoke(), or pass a Client."
            )
        return self._to_documents(self._find(query))

    def _find(self, query: str) -> Any:
        """Return the hits, or an awaitable of them for an AsyncClient."""
        check_text(query)
        parsed_query = build_query(
            [query],
            literal=self.literal,
            filters=self.filters,
            mode=self.mode,
            hint="To search by a file, call index.similar(FILE).",
        )
        return self.source.search(
            parsed_query, self.k, min_score=self.min_score, min_confidence=self.min_confidence
        )

    def _to_documents(self, hits: Sequence[Hit]) -> list[Document]:
        url = getattr(self.source, "url", "")
        return [to_document(hit, url) for hit in hits]


def to_document(hit: Hit, url: str = "") -> Document:
    """Return a hit as a document.

    Args:
        hit: A hit of an index or of a server.
        url: URL of the server.
    """
    content = hit_text(hit) if hit.matched is None else hit.matched.text
    return Document(id=str(hit.id), page_content=content, metadata=hit_metadata(hit, url))
