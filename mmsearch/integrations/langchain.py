"""LangChain retriever that returns pictures as documents, and vector store that keeps them.

::

    from mmsearch.integrations.langchain import MMSearchRetriever

    retriever = MMSearchRetriever(source=mmsearch.open_index("holiday"), k=5)
    for document in retriever.invoke("a red car"):
        print(document.metadata["path"], document.page_content)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

from pydantic import ConfigDict, ValidationError, model_validator

from mmsearch.api import Index
from mmsearch.client import AsyncClient
from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.core.results import Hit, Item
from mmsearch.core.validation import format_validation_errors
from mmsearch.integrations._common import (
    build_query,
    check_options,
    check_source,
    check_text,
    hit_metadata,
    hit_text,
    require_all_added,
    require_index,
)

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables.config import run_in_executor
    from langchain_core.vectorstores import VectorStore
except ModuleNotFoundError as missing:
    raise MissingExtraError.for_extra("The retriever", "langchain-core", "langchain") from missing


CALL_OPTIONS = (
    "k",
    "filters",
    "mode",
    "min_score",
    "min_confidence",
    "literal",
    "fold",
    "like",
    "unlike",
)
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
            which cannot name files here, and dates, people and places in its words as filters.
        fold: Return one of near duplicates and of a burst, whose metadata ``folded`` and
            ``duplicates`` have the number and the paths of the others; False to return each.
        like: Pictures of the index (hits or their ids) that are right; those like them rank higher.
        unlike: Hits that are wrong: they are left out, and pictures like them rank lower.

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
    fold: bool = True
    like: Any = ()
    unlike: Any = ()

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
        check_options(
            *(self.k, self.mode, self.min_score, self.min_confidence),
            fold=self.fold,
            like=self.like,
            unlike=self.unlike,
        )
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
            like=self.like,
            unlike=self.unlike,
            hint="To search by a file, call index.similar(FILE).",
        )
        return self.source.search(
            parsed_query,
            self.k,
            min_score=self.min_score,
            min_confidence=self.min_confidence,
            fold=self.fold,
            literal=self.literal,
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


IMAGE_KEY = "image"
"""Key of a document's metadata that holds its picture: a path or a URL."""


class MMSearchVectorStore(VectorStore):
    """Vector store of pictures with texts.

    Each document is a picture: its content is the caption, its metadata are JSON values. A document
    without a picture cannot be added. The index encodes pictures and texts itself, so there is no
    embedding to pass. Two documents with the same picture are one hit of a search.

    Args:
        index: The index.
        load_image: Returns the picture of a document, as `mmsearch.Index.add` takes it; default:
            the ``image`` of its metadata, which is a path or a URL.
        keep_originals: True to keep the contents of pictures in the index.
        wait_s: Seconds to wait for another writer.

    Raises:
        UsageError: ``index`` is not an index.
    """

    def __init__(
        self,
        index: Index,
        *,
        load_image: Callable[[Document], Any] | None = None,
        keep_originals: bool = False,
        wait_s: float = 60.0,
    ) -> None:
        self.index = require_index(index)
        self._load_image = load_image or _load_named_image
        self._keep_originals = keep_originals
        self._wait_s = wait_s

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[Any, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        images: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add pictures by their captions, or replace those with the same ids.

        Args:
            texts: A caption for each picture.
            metadatas: Metadata of each.
            ids: An id for each; new ones are made for None.
            images: Pictures, as `mmsearch.Index.add` takes them; default: see ``load_image``.
            kwargs: Not used.

        Returns:
            The ids.

        Raises:
            UsageError: A document has no picture, or an argument has the wrong type or length.
            SourceError: Pictures cannot be read; the others were added.
        """
        contents = list(texts)
        given: Sequence[str | None] = [None] * len(contents) if ids is None else ids
        keys = [str(uuid4()) if key is None else key for key in given]
        values = [{} for _ in contents] if metadatas is None else metadatas
        if images is None:
            if len(values) != len(contents):
                raise UsageError("There are fewer metadatas than texts.", "Pass one of each.")
            images = [
                self._load_image(Document(page_content=content, metadata=value))
                for content, value in zip(contents, values, strict=True)
            ]
        report = self.index.add(
            images,
            ids=keys,
            texts=[content or None for content in contents],
            metadata=values,
            keep_originals=self._keep_originals,
            wait_s=self._wait_s,
        )
        require_all_added(report)
        return keys

    def add_images(
        self,
        images: Iterable[Any],
        metadatas: list[dict[Any, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        texts: Iterable[str] | None = None,
    ) -> list[str]:
        """Add pictures, with captions or without; see `add_texts`."""
        pictures = list(images)
        captions = [""] * len(pictures) if texts is None else texts
        return self.add_texts(captions, metadatas, ids=ids, images=pictures)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents; unknown ids are ignored.

        Raises:
            UsageError: ``ids`` is None.
        """
        if ids is None:
            raise UsageError("delete needs the ids of the documents.", "Pass them as a list.")
        if self.index.exists():
            self.index.delete(ids, wait_s=self._wait_s)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that exist, in the order of the ids."""
        if not self.index.exists():
            return []
        items = [self.index.get(key) for key in ids]
        return [_to_stored_document(item) for item in items if item is not None]

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - its name in other stores
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents that match a description best.

        Args:
            query: The description, which is literal.
            k: Maximum number of documents.
            filter: Values or conditions that the metadata must have, such as ``{"shop": "Rome",
                "price": {"lt": 100}}``.
            kwargs: ``filters``, ``mode``, ``min_score`` and ``min_confidence`` of
                `mmsearch.Index.search`.
        """
        return [_to_stored_document(hit) for hit in self._find(query, k, filter, kwargs)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - its name in other stores
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k best documents with their scores (`Hit.score`, higher is better)."""
        hits = self._find(query, k, filter, kwargs)
        return [(_to_stored_document(hit), hit.score) for hit in hits]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        hits = self._find(query, k, kwargs.pop("filter", None), kwargs)
        return [(_to_stored_document(hit), hit.confidence) for hit in hits]

    def _find(
        self, query: str, k: int, conditions: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Sequence[Hit]:
        check_text(query)
        unknown = sorted(options.keys() - {"filters", "mode", "min_score", "min_confidence"})
        if unknown:
            raise UsageError(
                f"A search does not accept {', '.join(unknown)}.",
                "It accepts filter, filters, mode, min_score and min_confidence.",
            )
        filters = options.get("filters")
        if conditions is not None:
            if filters is not None:
                raise UsageError("A search accepts filter or filters.", "Pass one of them.")
            filters = {
                f"metadata.{name}": (
                    {operator.removeprefix("$"): bound for operator, bound in value.items()}
                    if isinstance(value, Mapping)
                    else value
                )
                for name, value in conditions.items()
            }
        if not self.index.exists():
            return []
        # Each document counts, also if its picture is like that of another.
        return self.index.search(
            query, k, fold=False, literal=True, **{**options, "filters": filters}
        )

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[Any, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        index: Index | None = None,
        images: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return a store for an index after adding pictures to it.

        Args:
            texts: See `add_texts`.
            embedding: None: the index has a model of its own.
            metadatas: See `add_texts`.
            ids: See `add_texts`.
            index: The index.
            images: See `add_texts`.
            kwargs: Arguments of the store.

        Raises:
            UsageError: There is an embedding, no index, or see `add_texts`.
        """
        if embedding is not None:
            raise UsageError(
                "The store encodes pictures and texts with the model of its index.",
                "Pass None as embedding.",
            )
        store = cls(require_index(index), **kwargs)
        store.add_texts(texts, metadatas, ids=ids, images=images)
        return store


def _load_named_image(document: Document) -> Any:
    image = document.metadata.get(IMAGE_KEY)
    if not isinstance(image, str) or not image:
        raise UsageError(
            f"The document {document.page_content[:40]!r} has no picture, and an index of pictures"
            " keeps no texts alone.",
            "Pass the pictures as images, or a path or URL as metadata['image'].",
        )
    return image


def _to_stored_document(item: Item) -> Document:
    """Return a picture as the document that was added."""
    captions = [text.text for text in item.texts if text.kind == "caption"]
    return Document(
        id=item.key, page_content=captions[0] if captions else "", metadata=dict(item.metadata)
    )
