"""LlamaIndex retriever that returns pictures as nodes.

::

    from mmsearch.integrations.llama_index import MMSearchRetriever

    retriever = MMSearchRetriever(mmsearch.open_index("holiday"), k=5)
    for found in retriever.retrieve("a red car"):
        print(found.score, found.node.image_path)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from mmsearch.api import Index
from mmsearch.client import AsyncClient, Client
from mmsearch.core.errors import InvalidQueryError, MissingExtraError, UsageError
from mmsearch.core.filters import Filters
from mmsearch.core.results import Hit
from mmsearch.integrations._common import (
    build_query,
    check_options,
    check_source,
    check_text,
    hit_metadata,
    hit_text,
    link_url,
)

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.image_retriever import BaseImageRetriever
    from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, QueryType
except ModuleNotFoundError as missing:
    raise MissingExtraError.for_extra(
        "The retriever", "llama-index-core", "llamaindex"
    ) from missing

LLM_METADATA_KEYS = (
    *("path", "position", "original", "texts", "taken_at", "camera", "latitude", "longitude"),
    *("lens", "rating", "label", "damage"),
)
"""Metadata keys shown to a language model if they have a value; all others are for programs."""


class MMSearchRetriever(BaseRetriever, BaseImageRetriever):
    """Retrieves pictures that match a description, a picture, or both.

    The text of a query is literal. The ``image_path`` of a `QueryBundle` is a picture file of this
    machine, or the URL of a picture if the source is a server that fetches it. The
    ``custom_embedding_strs`` of a bundle replace its text and are literal, too; its ``embedding``
    is of another embedding space and is not used.

    Args:
        source: A `mmsearch.Index`; a `mmsearch.Client`; or a
            `mmsearch.AsyncClient`, for ``aretrieve`` and the other asynchronous methods only.
        k: Maximum number of nodes.
        filters: Filters as for the source's ``search``.
        mode: ``vector``, ``text`` or ``hybrid``; None to choose by whether the index has texts.
        min_score: Minimum score of hits.
        min_confidence: Minimum confidence of hits.
        literal: True to take the text literally; False to read it as a line of the query language,
            which cannot name files here.
        callback_manager: Passed to LlamaIndex.
        verbose: Passed to LlamaIndex.

    Raises:
        UsageError: The source is not an index or client, it does not accept these filters, or an
            argument has the wrong type.
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
        literal: bool = True,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        check_source(source, filters)
        check_options(k, mode, min_score, min_confidence)
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.source: Any = source
        self.k = k
        self.filters: Any = filters
        self.mode = mode
        self.min_score = min_score
        self.min_confidence = min_confidence
        self.literal = literal

    def retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the nodes of a query.

        Raises:
            InvalidQueryError: The query is neither a string nor a bundle, or it is empty.
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
                "An AsyncClient cannot be used synchronously.",
                "Call aretrieve(), or pass a Client.",
            )
        return self._to_nodes(self._find(query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if isinstance(self.source, AsyncClient):
            return self._to_nodes(await self._find(query_bundle))
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.retrieve(_text_only(query_bundle))

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.aretrieve(_text_only(query_bundle))

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.retrieve(_picture_only(query_bundle))

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.aretrieve(_picture_only(query_bundle))

    def _find(self, bundle: QueryBundle) -> Any:
        """Return the hits, or an awaitable of them for an AsyncClient."""
        strings = bundle.custom_embedding_strs
        texts = [bundle.query_str] if strings is None else strings
        image = bundle.image_path
        is_upload = image is not None and not isinstance(self.source, Index)
        query: Any = ""
        if not is_upload or any(text.strip() for text in texts):
            query = build_query(
                texts,
                literal=self.literal or strings is not None,
                images=[] if image is None or is_upload else [image],
                filters=self.filters,
                mode=self.mode,
                hint="Pass a picture as the image_path of a QueryBundle.",
            )
        options: dict[str, Any] = {
            "min_score": self.min_score,
            "min_confidence": self.min_confidence,
        }
        if not is_upload:
            return self.source.search(query, self.k, **options)
        if not query:
            options |= {"filters": self.filters, "mode": self.mode}
        return self.source.similar(image, self.k, query=query, **options)

    def _to_nodes(self, hits: Sequence[Hit]) -> list[NodeWithScore]:
        url = getattr(self.source, "url", "")
        return [NodeWithScore(node=to_node(hit, url), score=hit.score) for hit in hits]


def to_node(hit: Hit, url: str = "") -> ImageNode:
    """Return a hit as a node; its id and hash do not depend on the query.

    Args:
        hit: A hit of an index or of a server.
        url: URL of the server.
    """
    hit_fields = hit_metadata(hit, url)
    # LlamaIndex stores metadata only if they are flat.
    metadata = hit_fields | {
        "texts": "\n".join(hit_fields["texts"]),
        "metadata": json.dumps(hit_fields["metadata"], ensure_ascii=False),
    }
    if hit.links:
        location = {"image_url": hit_fields["original"]}
        uri = link_url(url, hit.links["self"])
    elif not hit.uri or hit.path.is_file():
        location = {"image_path": _encodable_path(hit.path)}
        uri = hit.path.as_uri()
    else:
        location, uri = {}, hit.uri
    excluded_keys = [
        name
        for name, value in metadata.items()
        if name not in LLM_METADATA_KEYS or value in (None, "")
    ]
    return ImageNode(
        id_=str(uuid5(NAMESPACE_URL, f"{uri}#{hit.part}" if hit.part else uri)),
        text=hit_text(hit),
        # The blocks of an image node contain its metadata and the picture, but never its text. The
        # metadata therefore include the texts, and the template does not repeat them.
        text_template="{metadata_str}",
        image_mimetype=f"image/{hit.format.lower()}" if hit.format else None,
        metadata=metadata,
        excluded_llm_metadata_keys=excluded_keys,
        excluded_embed_metadata_keys=list(metadata),
        **location,
    )


def _check_query(bundle: object) -> None:
    check_text(bundle.query_str if isinstance(bundle, QueryBundle) else bundle)


def _text_only(bundle: QueryBundle) -> QueryBundle:
    return replace(bundle, image_path=None)


def _picture_only(bundle: QueryBundle) -> QueryBundle:
    if bundle.image_path is None:
        raise InvalidQueryError("The query has no picture.", "Pass its path as image_path.")
    return QueryBundle("", image_path=bundle.image_path)


def _encodable_path(path: Path) -> str | None:
    """Return a path as a string, or None if it is not valid Unicode, which a node cannot hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return None
    return str(path)
