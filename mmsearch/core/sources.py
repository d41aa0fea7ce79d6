"""The protocol of sources, the records that they yield, and a parallel reader of their items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Text


@dataclass(frozen=True)
class SourcePart:
    """A part of a source: a tar, a row group, a listing.

    Attributes:
        key: Name of the part, unique in the source; b"" if the source has one part.
        stamp: Changes when an item of the part may have changed. An unchanged stamp means that the
            part passes whole; b"" never passes.
    """

    key: bytes
    stamp: bytes


@dataclass(frozen=True)
class SourceItem:
    """A picture in a source.

    Attributes:
        key: Name of the item, unique in the part, by which `Source.read` finds it again: the path
            of an archive's member, the id or URL of a row, the name of an object.
        stamp: Changes when the content may have changed; texts and metadata do not count. b"" is
            never the same.
        load: Returns the content, from any thread and at any time while the source is open. It may
            take a request, so it is not called for items that are known. DecodeError if it fails.
        size: Size of the content in bytes; None if it is not known without a request.
        texts: Texts about the picture.
        metadata: Other values that the source has about it, as JSON has them.
    """

    key: bytes
    stamp: bytes
    load: Callable[[], bytes]
    size: int | None = None
    texts: tuple[Text, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceFailure:
    """An item, or the rest of a part, that cannot be read.

    Attributes:
        key: Name of the item, or a name that describes the place; b"" for all of the source.
        reason: The reason as a clause.
        stamp: Stamp of the item, if it has one, so that it is not tried again while it is the same.
        transient: True if a retry may succeed on the same content.
        ends_part: True if the part ends here early: items that it had before and that did not come
            in this pass are not gone, and the part does not pass whole next time.
    """

    key: bytes
    reason: str
    stamp: bytes = b""
    transient: bool = False
    ends_part: bool = False


class Source(Protocol):
    """A collection of pictures, other than a folder, read in parts."""

    @property
    def kind(self) -> str:
        """Name of the plugin."""

    @property
    def uri(self) -> bytes:
        """URI of the source, or its absolute path."""

    @property
    def parallel_loads(self) -> int:
        """Number of items that are best loaded at the same time."""

    def parts(self) -> Iterator[SourcePart]:
        """Yield all parts in a fixed order.

        Raises:
            SourceError: The source cannot be listed; no part is gone for that.
        """

    def items(self, part: SourcePart) -> Iterator[SourceItem | SourceFailure]:
        """Yield the pictures of a part. What fails is yielded, never raised."""

    def read(self, key: bytes) -> bytes:
        """Return the content of one item again.

        Raises:
            DecodeError: It cannot be read, or the source has no such item.
        """

    def exists(self, key: bytes) -> bool | None:
        """Return True if the source has the item; None if that is not known now."""

    def close(self) -> None:
        """Free connections and threads."""


class SourcePlugin(Protocol):
    """Interface of a module in sources/."""

    def build(
        self, uri: bytes, *, is_picture: Callable[[bytes, bytes], bool], **choices: Any
    ) -> Source:
        """Build the source.

        Args:
            uri: Path or URI of the source.
            is_picture: Returns True for the name and the first bytes of a picture.
            **choices: What the plugin lets users choose; the annotations say what they take.

        Raises:
            SourceError: The source cannot be used.
            UsageError: A choice is not valid.
            MissingExtraError: A library is not installed.
        """


def load_items(
    source: Source, items: Iterable[SourceItem | SourceFailure]
) -> Iterator[tuple[SourceItem, bytes] | SourceFailure]:
    """Load items in parallel and yield them in their order with their contents.

    At most twice `Source.parallel_loads` contents are in memory at a time.

    Args:
        source: The source of the items.
        items: Items to load, such as new ones, and failures, which are passed on.
    """
    if source.parallel_loads <= 1:
        for item in items:
            yield item if isinstance(item, SourceFailure) else _load(item)
        return
    pending: deque[SourceFailure | Future[tuple[SourceItem, bytes] | SourceFailure]] = deque()
    with ThreadPoolExecutor(source.parallel_loads, "mmsearch-load") as pool:
        try:
            for item in items:
                if isinstance(item, SourceFailure):
                    pending.append(item)
                else:
                    pending.append(pool.submit(_load, item))
                if len(pending) >= 2 * source.parallel_loads:
                    yield _result(pending.popleft())
            while pending:
                yield _result(pending.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _load(item: SourceItem) -> tuple[SourceItem, bytes] | SourceFailure:
    try:
        return item, item.load()
    except DecodeError as error:
        is_transient = bool(error.details.get("transient"))
        return SourceFailure(item.key, error.message, item.stamp, is_transient)


def _result(
    pending: SourceFailure | Future[tuple[SourceItem, bytes] | SourceFailure],
) -> tuple[SourceItem, bytes] | SourceFailure:
    return pending if isinstance(pending, SourceFailure) else pending.result()
