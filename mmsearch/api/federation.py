"""Searches in several indexes as in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from mmsearch.api._facets import IndexFacets
from mmsearch.api._search import IndexSearch
from mmsearch.api._session import IndexSession, translate_errors
from mmsearch.api._suggestions import IndexSuggestions
from mmsearch.api.index import Index
from mmsearch.core.arguments import PictureInput, Texts
from mmsearch.core.errors import MMSearchError, UsageError
from mmsearch.core.federated_ids import (
    MAX_INDEXES,
    join_id,
    missing_index_error,
    parse_picture,
    split_id,
)
from mmsearch.core.hit_list import HitList
from mmsearch.core.query import EncodedQuery, Query, SearchRequest
from mmsearch.core.results import Hit, SearchResult
from mmsearch.core.settings import Settings
from mmsearch.core.speech import Transcript
from mmsearch.core.suggestions import DEFAULT_LIMIT, Suggestion

if TYPE_CHECKING:
    from mmsearch.core.arguments import SoundInput
    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.facets import Facets
    from mmsearch.core.identity import Identity
    from mmsearch.search.engine import SearchEngine
    from mmsearch.storage.layout import IndexLayout

FederatedPicture: TypeAlias = "Hit | tuple[str, int] | str"
"""A picture of one of several indexes: a hit, or the name of the index and the id in it, as a pair
or a text such as ``holiday:12``."""

FederatedPictures: TypeAlias = "FederatedPicture | Iterable[FederatedPicture]"


class FederatedSession(IndexSession):
    """The session of several indexes; see `IndexSession`.

    Args:
        layouts: Files of the indexes.
        settings: Settings of this process.
        on_message: Called with a message before slow one-time work.
    """

    def __init__(
        self,
        layouts: Sequence[IndexLayout],
        settings: Settings,
        on_message: Callable[[str], None],
    ) -> None:
        super().__init__(layouts[0], settings, on_message)
        self._layouts = layouts

    def _open_catalog(self) -> CatalogReader:
        from mmsearch.factories.federation import open_catalogs  # noqa: PLC0415 - of few searches

        catalog: Any = open_catalogs(self._layouts)
        return catalog  # type: ignore[no-any-return]

    def _make_engine(self, catalog: Any, identity: Identity) -> SearchEngine:
        from mmsearch.factories.federation import make_federated_engine  # noqa: PLC0415 - as above

        return make_federated_engine(
            self._layouts, catalog, identity, self._load_image, self._settings, self._on_message
        )

    def encode(
        self, requests: Sequence[SearchRequest]
    ) -> list[EncodedQuery | MMSearchError] | None:
        """Return the encoded query or the error of each request; None while all are empty."""
        valid = [request for request in requests if not self._lacks_index(request)]
        encoded = super().encode(valid)
        if encoded is None:
            return None
        outcomes = iter(encoded)
        return [
            missing_index_error() if self._lacks_index(request) else next(outcomes)
            for request in requests
        ]

    def _lacks_index(self, request: SearchRequest) -> bool:
        return any(
            term.picture is not None and not 0 <= split_id(term.picture)[0] < len(self._layouts)
            for term in request.query.terms
        )

    def answer(
        self, encoded: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """Return the result of each encoded query, whose hits name their index, or its error."""
        names = [layout.name for layout in self._layouts]
        return [
            each if isinstance(each, MMSearchError) else _name_indexes(each, names)
            for each in self._answer(encoded)
        ]


@translate_errors
class FederatedIndex(IndexSearch, IndexFacets, IndexSuggestions):
    """Several indexes that are searched as one; `mmsearch.open_indexes` opens them.

    Results equal those of one index with the pictures of all, except for what the guide to several
    indexes lists. Many threads may use it while others change the indexes.

    Args:
        indexes: The indexes, in the order in which equal hits are listed.
    """

    def __init__(
        self,
        indexes: Sequence[Index],
        layouts: Sequence[IndexLayout],
        settings: Settings,
        on_message: Callable[[str], None],
    ) -> None:
        self._indexes = {index.name: index for index in indexes}
        self._layouts = layouts
        self._session = FederatedSession(layouts, settings, on_message)

    def __repr__(self) -> str:
        return f"<FederatedIndex of {', '.join(map(repr, self._indexes))}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and memory after the calls that are running. It can be used again."""
        with ExitStack() as stack:
            for index in self._indexes.values():
                stack.callback(index.close)
            stack.callback(self._session.close)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the indexes."""
        return tuple(self._indexes)

    @property
    def name(self) -> str:
        """Names of the indexes, for display."""
        return ", ".join(self._indexes)

    def index(self, name: str) -> Index:
        """Return one of the indexes.

        Raises:
            UsageError: It is not one of them.
        """
        if name not in self._indexes:
            raise UsageError(f"Index {name!r} is not one of {self.name}.", "Use one of these.")
        return self._indexes[name]

    # An id alone does not say which index it is of.
    def search(  # type: ignore[override]
        self,
        query: str | Query | Transcript,
        k: int = 10,
        *,
        like: FederatedPictures = (),
        unlike: FederatedPictures = (),
        **options: Any,
    ) -> HitList:
        """Return the pictures of all indexes that match a description best.

        Args:
            query: See `Index.search`.
            k: Maximum number of hits.
            like: Hits that are right, or pairs of the name of an index and an id in it, which may
                be texts such as ``holiday:12``.
            unlike: Hits that are wrong, likewise.
            **options: The other options of `Index.search`.

        Returns:
            Hits, each with the name of its index (`Hit.index`) and its id there.

        Raises:
            UnknownIndexError: An index does not exist.
            UsageError: The models or the fusions of the indexes differ, or an argument is invalid.
            InvalidQueryError: The query is invalid, or an id does not say which index it is in.
        """
        return super().search(
            query, k, like=self._to_ids(like), unlike=self._to_ids(unlike), **options
        )

    def similar(
        self, image: PictureInput | FederatedPicture, k: int = 10, **options: Any
    ) -> HitList:
        """Return the pictures of all indexes most similar to a picture; see `Index.similar`.

        Args:
            image: See `Index.similar`; a picture of the index is a hit, or the name of an index
                and an id in it.
            k: Maximum number of hits.
            **options: The other options of `Index.similar`.
        """
        given: Any = image
        if isinstance(given, Hit | int) or _is_pair(given):
            given = self.picture_id(given)
        return super().similar(given, k, **options)

    def facets(  # type: ignore[override]
        self,
        query: str | Query | Transcript = "",
        *,
        like: FederatedPictures = (),
        unlike: FederatedPictures = (),
        **options: Any,
    ) -> Facets:
        """Return how many pictures of all indexes have each year, place, camera and so on.

        Args:
            query: See `Index.facets`.
            like: See `search`.
            unlike: See `search`.
            **options: The other options of `Index.facets`.
        """
        found = super().facets(
            query, like=self._to_ids(like), unlike=self._to_ids(unlike), **options
        )
        return replace(found, query=_name_pictures(found.query, self.names))

    def suggest(
        self, prefix: str = "", limit: int = DEFAULT_LIMIT, *, kinds: Texts = ()
    ) -> list[Suggestion]:
        """Return texts that complete what somebody types, and that one of the indexes can answer.

        See `Index.suggest`. The pictures of all indexes count, and `Suggestion.index` is the index
        of the picture `Suggestion.item`.
        """
        found = super().suggest(prefix, limit, kinds=kinds)
        pictures = [split_id(each.item) for each in found]
        return [
            replace(each, item=item_id, index=self.names[index])
            for each, (index, item_id) in zip(found, pictures, strict=True)
        ]

    def listen(self, sound: SoundInput, *, language: str | None = None) -> Transcript:
        """Return what is spoken in a recording; see `Index.listen`."""
        return next(iter(self._indexes.values())).listen(sound, language=language)

    def thumbnail(self, hit: Hit, edge_px: int = 256) -> bytes | None:
        """Return a JPEG thumbnail of a hit; see `Index.thumbnail`."""
        return self._index_of(hit).thumbnail(hit, edge_px)

    def original(self, hit: Hit) -> Path:
        """Return the path of the file of a hit; see `Index.original`."""
        return self._index_of(hit).original(hit)

    def read_original(self, hit: Hit) -> bytes:
        """Return the content of a hit; see `Index.read_original`."""
        return self._index_of(hit).read_original(hit)

    def _thumbnail(self, hit: Hit, edge_px: int) -> bytes | None:
        return self.thumbnail(hit, edge_px)

    def _index_of(self, hit: Any) -> Index:
        """Return the index of a hit."""
        if not isinstance(hit, Hit) or hit.index not in self._indexes:
            raise missing_index_error()
        return self._indexes[hit.index]

    def _to_ids(self, pictures: Any) -> list[int]:
        if pictures is None:
            return []
        is_one = _is_pair(pictures) or isinstance(pictures, str)
        is_one = is_one or not isinstance(pictures, Iterable)
        return [self.picture_id(each) for each in ([pictures] if is_one else pictures)]

    def picture_id(self, picture: Any) -> int:
        """Return the id of a picture for `Term.picture` in queries of these indexes.

        Args:
            picture: A hit, or the name of an index and the id in it as a pair or a text.

        Raises:
            InvalidQueryError: It does not say which of the indexes it is in.
        """
        if isinstance(picture, str):
            return parse_picture(picture, self.names)
        name, item_id = None, None
        if isinstance(picture, Hit):
            name, item_id = picture.index, picture.id
        elif _is_pair(picture):
            name, item_id = picture
        if name not in self._indexes or not isinstance(item_id, int) or item_id < 1:
            raise missing_index_error()
        return join_id(list(self._indexes).index(name), item_id)


def _is_pair(picture: Any) -> bool:
    return isinstance(picture, tuple) and len(picture) == 2 and isinstance(picture[0], str)


def check_names(names: Sequence[str]) -> None:
    """Check the names of indexes that are searched together.

    Raises:
        UsageError: There is no name, there are too many, or one is given twice.
    """
    if not names:
        raise UsageError("No index is named.", "Name the indexes to search.")
    if len(names) > MAX_INDEXES:
        raise UsageError(
            f"{len(names)} indexes are named; {MAX_INDEXES} are allowed.", "Name fewer."
        )
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Index {name!r} is named twice.", "Name it once.")


def _name_indexes(result: SearchResult, names: Sequence[str]) -> SearchResult:
    """Return a result whose hits have the names and the ids of their indexes."""
    return replace(
        result,
        query=_name_pictures(result.query, names),
        hits=tuple(_name_index(hit, names) for hit in result.hits),
    )


def _name_pictures(line: str, names: Sequence[str]) -> str:
    """Return the line of a query with the names of indexes in place of federated ids."""
    words = line.split(" ")
    for place in range(1, len(words)):
        if words[place - 1] == "picture" and words[place].isdecimal():
            index, item_id = split_id(int(words[place]))
            if 0 <= index < len(names):
                words[place] = f"{names[index]}:{item_id}"
    return " ".join(words)


def _name_index(hit: Hit, names: Sequence[str]) -> Hit:
    index, item_id = split_id(hit.id)
    return replace(
        hit,
        id=item_id,
        index=names[index],
        moments=tuple(replace(each, id=split_id(each.id)[1]) for each in hit.moments),
        duplicates=tuple(replace(each, id=split_id(each.id)[1]) for each in hit.duplicates),
    )
