"""LlamaIndex retriever that returns pictures as nodes, and vector store that keeps them.

::

    from mmsearch.integrations.llama_index import MMSearchRetriever

    retriever = MMSearchRetriever(mmsearch.open_index("holiday"), k=5)
    for found in retriever.retrieve("a red car"):
        print(found.score, found.node.image_path)
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from mmsearch.api import Index
from mmsearch.client import AsyncClient, Client
from mmsearch.core.arguments import PictureIds
from mmsearch.core.errors import GoneError, InvalidQueryError, MissingExtraError, UsageError
from mmsearch.core.filters import Filters
from mmsearch.core.results import Hit, Item
from mmsearch.core.types import IMAGE_KIND
from mmsearch.integrations._common import (
    build_query,
    check_options,
    check_source,
    check_text,
    hit_metadata,
    hit_text,
    link_url,
    require_all_added,
    require_index,
)

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.image_retriever import BaseImageRetriever
    from llama_index.core.schema import (
        BaseNode,
        ImageNode,
        MetadataMode,
        NodeWithScore,
        QueryBundle,
        QueryType,
    )
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ModuleNotFoundError as missing:
    raise MissingExtraError.for_extra(
        "The retriever", "llama-index-core", "llamaindex"
    ) from missing

LLM_METADATA_KEYS = (
    *("path", "position", "original", "texts", "taken_at", "camera", "place"),
    *("latitude", "longitude"),
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
            which cannot name files here, and dates, people and places in its words as filters.
        fold: Return one of near duplicates and of a burst, whose metadata ``folded`` and
            ``duplicates`` have the number and the paths of the others; False to return each.
        like: Pictures of the index (hits or their ids) that are right; those like them rank higher.
        unlike: Hits that are wrong: they are left out, and pictures like them rank lower.
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
        fold: bool = True,
        like: PictureIds = (),
        unlike: PictureIds = (),
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        check_source(source, filters)
        check_options(k, mode, min_score, min_confidence, fold=fold, like=like, unlike=unlike)
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.source: Any = source
        self.k = k
        self.filters: Any = filters
        self.mode = mode
        self.min_score = min_score
        self.min_confidence = min_confidence
        self.literal = literal
        self.fold = fold
        self.like: Any = like
        self.unlike: Any = unlike

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
                like=self.like,
                unlike=self.unlike,
                hint="Pass a picture as the image_path of a QueryBundle.",
            )
        options: dict[str, Any] = {
            "min_score": self.min_score,
            "min_confidence": self.min_confidence,
            "fold": self.fold,
            "literal": self.literal or strings is not None,
        }
        if not is_upload:
            return self.source.search(query, self.k, **options)
        if not query:
            options |= {"filters": self.filters, "mode": self.mode}
            options |= {"like": self.like, "unlike": self.unlike}
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
        "keys": "\n".join(hit_fields["keys"]),
        "duplicates": "\n".join(hit_fields["duplicates"]),
        "metadata": json.dumps(hit_fields["metadata"], ensure_ascii=False),
    }
    is_image = hit.kind == IMAGE_KIND
    if hit.links:
        # The original of a page is a document, which no model sees as a picture.
        location = {"image_url": hit_fields["original" if is_image else "thumbnail"]}
        uri = link_url(url, hit.links["self"])
    elif not hit.uri or hit.path.is_file():
        location = {"image_path": _encodable_path(hit.path)} if is_image else {}
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
        image_mimetype=f"image/{hit.format.lower()}" if is_image and hit.format else None,
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


NODE_ID_KEY = "_node_id"
"""Key of the metadata that holds the id of a node."""

SEARCH_MODES = {
    VectorStoreQueryMode.DEFAULT: None,
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.TEXT_SEARCH: "text",
    VectorStoreQueryMode.SPARSE: "text",
}
"""Search mode of each query mode."""


class MMSearchVectorStore(BasePydanticVectorStore):
    """Vector store of pictures with texts, such as `ImageNode`.

    A node is one picture: its text is the caption, and its metadata are JSON values. A node without
    a picture cannot be added. The index encodes pictures and texts itself: embeddings of nodes and
    queries, which are of another model, are not used. Two nodes with the same picture are one
    result of a query.

    Args:
        index: The index.
        keep_originals: True to keep the contents of pictures in the index.
        wait_s: Seconds to wait for another writer.

    Raises:
        UsageError: ``index`` is not an index.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    keep_originals: bool = False
    wait_s: float = 60.0
    _index: Index = PrivateAttr()

    def __init__(self, index: Index, *, keep_originals: bool = False, wait_s: float = 60.0) -> None:
        super().__init__(stores_text=True, keep_originals=keep_originals, wait_s=wait_s)
        self._index = require_index(index)

    @property
    def client(self) -> Index:
        """The index."""
        return self._index

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes, or replace those with the same ids; return the ids.

        Raises:
            UsageError: A node has no picture.
            SourceError: Pictures cannot be read; the others were added.
        """
        report = self._index.add(
            [_load_picture(node) for node in nodes],
            ids=[node.node_id for node in nodes],
            texts=[node.get_content(MetadataMode.NONE) or None for node in nodes],
            metadata=[_to_metadata(node) for node in nodes],
            keep_originals=self.keep_originals,
            wait_s=self.wait_s,
        )
        require_all_added(report)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document."""
        self._delete_items(f"metadata.ref_doc_id == {ref_doc_id!r}")

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete nodes by their ids, by their metadata, or those that have both.

        Raises:
            UsageError: There are neither, or a filter is not supported.
        """
        if node_ids is None and filters is None:
            raise UsageError("delete_nodes needs node_ids or filters.", "clear deletes all nodes.")
        self._delete_items(_join_conditions(node_ids, None, filters))

    def clear(self) -> None:
        """Delete all nodes; pictures that were not added by a store stay."""
        self._delete_items(f"metadata.{NODE_ID_KEY} != None")

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Return the nodes with these ids and metadata.

        Raises:
            UsageError: A filter is not supported.
        """
        return [self._to_node(item) for item in self._list(node_ids, filters)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes that match the text of a query best.

        Raises:
            UsageError: The query has no text, or a mode or filter that is not supported.
        """
        if query.mode not in SEARCH_MODES:
            raise UsageError(
                f"The query mode {VectorStoreQueryMode(query.mode).value!r} is not supported.",
                f"Use one of {', '.join(mode.value for mode in SEARCH_MODES)}.",
            )
        if not query.query_str or not query.query_str.strip():
            raise UsageError(
                "The query has no text, and embeddings of other models cannot be searched.",
                "Set query_str; to search by a picture, use MMSearchRetriever.",
            )
        where = _join_conditions(query.node_ids, query.doc_ids, query.filters)
        hits: Sequence[Hit] = []
        if self._index.exists():
            hits = self._index.search(
                query.query_str,
                query.similarity_top_k,
                filters={"where": where},
                mode=SEARCH_MODES[query.mode],
                # Each node counts, also if its picture is like that of another.
                fold=False,
                literal=True,
            )
        nodes = [self._to_node(hit) for hit in hits]
        return VectorStoreQueryResult(
            nodes, [hit.score for hit in hits], [node.node_id for node in nodes]
        )

    def _list(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> list[Item]:
        where = _join_conditions(node_ids, None, filters)
        return list(self._iter_items(where))

    def _iter_items(self, where: str) -> Iterator[Item]:
        after_id = 0
        while items := self._index.list_items(after_id, filters={"where": where}):
            yield from items
            after_id = items[-1].id

    def _delete_items(self, where: str) -> None:
        # A picture may be that of several nodes, of which each pass finds one.
        while keys := [item.key for item in self._iter_items(where)]:
            if not self._index.delete(keys, wait_s=self.wait_s):
                return

    def _to_node(self, item: Item) -> BaseNode:
        node = metadata_dict_to_node(dict(item.metadata))
        if isinstance(node, ImageNode) and not (node.image_path or node.image_url):
            content = self._read_picture(item)
            node.image = None if content is None else base64.b64encode(content).decode()
        return node

    def _read_picture(self, item: Item) -> bytes | None:
        """Return the kept content of a picture, or its thumbnail."""
        try:
            return self._index.read_original(item.id)
        except GoneError:
            return self._index.thumbnail(item.id, edge_px=512)


def _load_picture(node: BaseNode) -> bytes | str:
    if isinstance(node, ImageNode):
        if node.image:
            return base64.b64decode(node.image)
        picture = node.image_path or node.image_url
        if picture:
            return picture
    raise UsageError(
        f"The node {node.node_id!r} has no picture, and an index of pictures keeps no texts alone.",
        "Add ImageNode objects, and keep other nodes in a vector store of texts.",
    )


def _to_metadata(node: BaseNode) -> dict[str, Any]:
    metadata = node_to_metadata_dict(node)
    content = json.loads(metadata["_node_content"])
    # The picture is in the index already.
    content["image"] = None
    if isinstance(content.get("image_resource"), dict):
        content["image_resource"]["data"] = None
    return metadata | {"_node_content": json.dumps(content), NODE_ID_KEY: node.node_id}


def _join_conditions(
    node_ids: Sequence[str] | None,
    doc_ids: Sequence[str] | None,
    filters: MetadataFilters | None,
) -> str:
    """Return the condition of a ``where`` filter for nodes of a store."""
    conditions = [f"metadata.{NODE_ID_KEY} != None"]
    if node_ids is not None:
        conditions.append(_is_one_of(f"metadata.{NODE_ID_KEY}", node_ids))
    if doc_ids is not None:
        conditions.append(_is_one_of("metadata.ref_doc_id", doc_ids))
    if filters is not None and filters.filters:
        conditions.append(_translate_filters(filters))
    return " and ".join(f"({condition})" for condition in conditions)


def _is_one_of(member: str, values: Sequence[Any]) -> str:
    # No value is in an empty list.
    if not values:
        return f"{member} == None and {member} != None"
    return " or ".join(f"{member} == {value!r}" for value in values)


def _translate_filters(filters: MetadataFilters) -> str:
    parts = [
        _translate_filters(part) if isinstance(part, MetadataFilters) else _translate_filter(part)
        for part in filters.filters
    ]
    if filters.condition is FilterCondition.NOT:
        return f"not ({' or '.join(f'({part})' for part in parts)})"
    joint = " or " if filters.condition is FilterCondition.OR else " and "
    return joint.join(f"({part})" for part in parts)


def _translate_filter(part: MetadataFilter) -> str:
    member, operator, value = f"metadata[{part.key!r}]", part.operator, part.value
    values = value if isinstance(value, list) else [value]
    one_of = _is_one_of(member, values)
    contained = [f"{single!r} in {member}" for single in values]
    conditions = {
        FilterOperator.IS_EMPTY: f"{member} == None",
        FilterOperator.NE: f"{member} == None or {member} != {value!r}",
        FilterOperator.IN: one_of,
        FilterOperator.NIN: f"{member} == None or not ({one_of})",
        FilterOperator.CONTAINS: f"{value!r} in {member}",
        FilterOperator.TEXT_MATCH_INSENSITIVE: f"{value!r} in {member}",
        FilterOperator.ANY: " or ".join(contained) or _is_one_of(member, []),
        FilterOperator.ALL: " and ".join(contained) or f"{member} != None",
    }
    if operator in conditions:
        return conditions[operator]
    if operator.value in ("==", "<", "<=", ">", ">="):
        return f"{member} {operator.value} {value!r}"
    raise UsageError(
        f"The filter operator {operator.value!r} is not supported.",
        "Use a comparison, in, nin, any, all, contains, is_empty or text_match_insensitive.",
    )
