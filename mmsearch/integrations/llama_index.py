"""Pictures as the nodes of a LlamaIndex retriever.

::

    from mmsearch.integrations.llama_index import MMSearchRetriever

    retriever = MMSearchRetriever(mmsearch.open_index("holiday"), k=5)
    for found in retriever.retrieve("a red car"):
        print(found.score, found.node.image_path)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from mmsearch.api import Index
from mmsearch.client import AsyncClient, Client, RemoteHit
from mmsearch.core.errors import InvalidQueryError, MissingExtraError, UsageError
from mmsearch.core.queries import Filters
from mmsearch.core.requests import Hit
from mmsearch.integrations._batching import literally, query_of
from mmsearch.integrations._formatting import facts_of, told_by
from mmsearch.integrations._locks import turn_of
from mmsearch.integrations._options import check_options, check_source, check_text

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.image_retriever import BaseImageRetriever
    from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, QueryType
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        "The retriever needs the Python package 'llama-index-core', which is not installed.",
        "Install it with: pip install 'mmsearch[llamaindex]'",
    ) from missing

SHOWN = ("path", "original", "texts", "taken_at", "camera", "latitude", "longitude")
"""Metadata that a language model reads, as far as it is known; all else is for programs."""


class MMSearchRetriever(BaseRetriever, BaseImageRetriever):
    """Finds pictures by describing them, by a picture, or by both.

    A query's text is a line of the query language that names no files; the ``image_path`` of a
    `QueryBundle` is a picture file of this machine. URLs of pictures are for servers that fetch
    them, in both. A bundle's ``custom_embedding_strs`` stand in the place of its text and are taken
    as they are; its ``embedding``, which is of another space, is not used.

    Args:
        source: A `mmsearch.Index`, which is asked by one thread after the other; a
            `mmsearch.Client`; or a `mmsearch.AsyncClient`, for ``aretrieve`` and its like alone.
        k: How many nodes at most.
        filters: As the source's ``search`` takes them.
        mode: ``vector``, ``text`` or ``hybrid``; None: as the index has texts or not.
        min_score: Hits with a lower score are left out.
        min_confidence: Hits with a lower confidence are left out.
        literal: Take a text as the words that it is, whatever signs it holds: for questions that
            people or models write without knowing the query language.
        callback_manager: LlamaIndex's.
        verbose: LlamaIndex's.

    Raises:
        UsageError: The source is none, does not take such filters, or an argument is of a wrong
            type.
    """

    def __init__(
        self,
        source: Index | Client | AsyncClient,
        *,
        k: int = 10,
        filters: Filters | Mapping[str, Any] | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        literal: bool = False,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        check_source(source, filters)
        check_options(k, mode, min_score, min_confidence)
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.source = source
        self.k = k
        self.filters: Any = filters
        self.mode = mode
        self.min_score = min_score
        self.min_confidence = min_confidence
        self.literal = literal

    def retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the nodes of a query.

        Raises:
            InvalidQueryError: It is neither a text nor a bundle, or asks for nothing.
        """
        _check_query(str_or_query_bundle)
        return super().retrieve(str_or_query_bundle)

    async def aretrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the nodes of a query; see `retrieve`."""
        _check_query(str_or_query_bundle)
        return await super().aretrieve(str_or_query_bundle)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if isinstance(self.source, AsyncClient):
            raise UsageError(
                "An AsyncClient cannot be waited for.", "Call aretrieve(), or give a Client."
            )
        if isinstance(self.source, Client):
            return self._nodes(self._ask(self.source, query_bundle))
        return self._nodes(self._look_up(self.source, query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if isinstance(self.source, AsyncClient):
            return self._nodes(await self._ask(self.source, query_bundle))
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.retrieve(_words_of(query_bundle))

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.aretrieve(_words_of(query_bundle))

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.retrieve(_picture_of(query_bundle))

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.aretrieve(_picture_of(query_bundle))

    def _look_up(self, index: Index, asked: QueryBundle) -> list[Hit]:
        images = [] if asked.image_path is None else [asked.image_path]
        query = query_of(
            self._line(asked),
            images=images,
            filters=self.filters,
            mode=self.mode,
            instead="Give a picture as the image_path of a QueryBundle.",
        )
        with turn_of(index):
            return index.search(
                query, self.k, min_score=self.min_score, min_confidence=self.min_confidence
            )

    def _ask(self, client: Client | AsyncClient, asked: QueryBundle) -> Any:
        """The hits, or what is awaited for them."""
        more: dict[str, Any] = {
            "filters": self.filters,
            "mode": self.mode,
            "min_score": self.min_score,
            "min_confidence": self.min_confidence,
        }
        line = self._line(asked)
        if asked.image_path is None:
            return client.search(line, self.k, **more)
        return client.similar(asked.image_path, self.k, query=line, **more)

    def _line(self, asked: QueryBundle) -> str:
        if asked.custom_embedding_strs is not None:
            return literally(asked.custom_embedding_strs)
        return literally([asked.query_str]) if self.literal else asked.query_str

    def _nodes(self, hits: Sequence[Hit | RemoteHit]) -> list[NodeWithScore]:
        url = getattr(self.source, "url", "")
        return [NodeWithScore(node=node_of(hit, url), score=hit.score) for hit in hits]


def node_of(hit: Hit | RemoteHit, url: str = "") -> ImageNode:
    """A hit as a node; its id and its hash are the same whatever was asked.

    Args:
        hit: Of an index or of a server.
        url: The server's.
    """
    facts = facts_of(hit, url)
    metadata = facts | {"texts": "\n".join(facts["texts"])}
    if isinstance(hit, RemoteHit):
        place = {"image_url": facts["original"]}
        uri = f"{url}{hit.links['self']}"
    else:
        place = {"image_path": _written(hit.path)}
        uri = hit.path.as_uri()
    unread = [name for name, value in metadata.items() if name not in SHOWN or value in (None, "")]
    return ImageNode(
        id_=str(uuid5(NAMESPACE_URL, uri)),
        text=told_by(hit),
        # The blocks of an image node hold its metadata and the picture, but never its text: so the
        # metadata tell what is written, and the text need not say it twice.
        text_template="{metadata_str}",
        image_mimetype=f"image/{hit.format.lower()}" if hit.format else None,
        metadata=metadata,
        excluded_llm_metadata_keys=unread,
        excluded_embed_metadata_keys=list(metadata),
        **place,
    )


def _check_query(asked: object) -> None:
    check_text(asked.query_str if isinstance(asked, QueryBundle) else asked)


def _words_of(asked: QueryBundle) -> QueryBundle:
    return replace(asked, image_path=None)


def _picture_of(asked: QueryBundle) -> QueryBundle:
    if asked.image_path is None:
        raise InvalidQueryError("There is no picture to search by.", "Give the path of one.")
    return QueryBundle("", image_path=asked.image_path)


def _written(path: Path) -> str | None:
    """A path as a text; None for one whose bytes are none, for a node cannot hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return None
    return str(path)
