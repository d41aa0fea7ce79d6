"""The items of an index: pictures that programs add by their own ids, listed, read and shown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.api._maintenance import MaintainedIndex
from mmsearch.api._session import translate_errors
from mmsearch.api.progress import ProgressOption, open_progress
from mmsearch.core.arguments import FilterValues, PictureId, to_filters, to_picture_id
from mmsearch.core.errors import DecodeError, ForbiddenError, GoneError
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Item

if TYPE_CHECKING:
    from mmsearch.core.reports import IndexReport

ITEMS_PER_PAGE = 500
"""Number of pictures that are read at once by iteration."""

MAX_JPEG_EDGE_PX = 65_535
"""Longest side that a JPEG can have."""


@translate_errors
class IndexItems(MaintainedIndex):
    """The items of an index, with the calls that add and delete them; see `mmsearch.Index`."""

    # --- pictures of a program, by its own ids ---

    def add(
        self,
        images: Iterable[Any],
        ids: Iterable[str] | None = None,
        *,
        texts: Iterable[Any] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
        keep_originals: bool = False,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> IndexReport:
        """Add pictures by ids of your own, or replace those that have the same ids.

        The inputs are read together, so generators of any length will do. Work is committed every
        few seconds; what is committed is found by all readers. A picture that cannot be read is in
        the report, and the others are added.

        The model and the decode processes stay ready until `close`, `release` or five idle minutes,
        so that later calls take little longer than the picture itself. Threads that add at the same
        time take turns.

        Args:
            images: Pictures: bytes of files, paths, URLs (with the extra ``urls``), Pillow images
                or uint8 arrays of shape (h, w, 3) in RGB.
            ids: An id for each picture; default: the sha256 of its content.
            texts: Texts of each picture: a caption, a list of captions, a mapping such as
                ``{"title": "...", "keywords": ["a", "b"]}``, or None.
            metadata: Metadata of each picture: a mapping of strings to values that JSON has, or
                None. Hits return it, and conditions such as ``metadata.price < 100`` filter by it.
            keep_originals: True to keep the content of each picture in the index. A thumbnail of
                512 pixels is kept in any case; another model is applied to that.
            wait_s: Seconds to wait for a writer in another process or `Index`.
            progress: See `add_folder`.

        Returns:
            A report: added, changed, unchanged, and what could not be read.

        Raises:
            UsageError: An input has the wrong type or length, or an id is given twice.
            IndexLockedError: Another process is writing the index.
            EncoderMismatchError: The index was made with a different encoder.
            ModelUnavailableError: The weights of the encoder are not available.
        """
        from mmsearch.api.records import iter_records  # noqa: PLC0415 - searches never need it
        from mmsearch.factories.sources import open_url_loader  # noqa: PLC0415
        from mmsearch.maintenance.records import add_records  # noqa: PLC0415

        with (
            self._session.warm_parts() as warm_parts,
            open_url_loader() as load_url,
            open_progress(progress) as on_progress,
        ):
            return add_records(
                self._layout,
                self._settings,
                self._on_message,
                iter_records(images, ids, texts, metadata, load_url),
                warm_parts,
                keep_originals=keep_originals,
                wait_s=wait_s,
                progress=on_progress,
            )

    def update(
        self,
        ids: str | Iterable[str],
        *,
        texts: Iterable[Any] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Replace the texts or the metadata of pictures that `add` has added.

        Their pictures are not encoded again, and `Hit.id` stays.

        Args:
            ids: Ids of the pictures, or one id.
            texts: New texts of each picture, as `add` takes them; None keeps all texts.
            metadata: New metadata of each picture; None keeps all metadata.
            wait_s: Seconds to wait for another writer.

        Raises:
            UnknownNameError: There is no picture with one of the ids. Nothing was changed.
            UsageError: An input has the wrong type or length.
        """
        from mmsearch.api.records import parse_update  # noqa: PLC0415 - searches never need it
        from mmsearch.maintenance.records import update_records  # noqa: PLC0415

        keys, new_texts, new_metadata = parse_update(ids, texts, metadata)
        with self._session.warm_parts() as warm_parts:
            update_records(
                self._layout,
                self._settings,
                self._on_message,
                keys,
                new_texts,
                new_metadata,
                warm_parts=warm_parts,
                wait_s=wait_s,
            )

    def delete(self, ids: str | Iterable[str], *, wait_s: float = 0.0) -> int:
        """Delete pictures that `add` has added; return how many there were.

        Args:
            ids: Ids of the pictures, or one id; unknown ones are ignored.
            wait_s: Seconds to wait for another writer.
        """
        from mmsearch.api.records import to_keys  # noqa: PLC0415 - searches never need it
        from mmsearch.maintenance.records import delete_records  # noqa: PLC0415

        with self._session.warm_parts() as warm_parts:
            return delete_records(self._layout, to_keys(ids), warm_parts, wait_s)

    def get(self, key: str) -> Item | None:
        """Return the picture that `add` has added with an id; None without one.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: The id is not a string.
        """
        from mmsearch.api.records import to_key  # noqa: PLC0415 - searches never need it
        from mmsearch.maintenance.records import load_records  # noqa: PLC0415

        with self._session.catalog() as catalog:
            stored = load_records(catalog, [to_key(key)]).get(key)
        record = None if stored is None or stored.item_id is None else self.picture(stored.item_id)
        if stored is None or record is None:
            return None
        # The content may have other places, which come first.
        item = Item.from_record(record)
        keys = tuple(sorted(item.keys, key=lambda other: other != key))
        return replace(item, key=key, keys=keys, metadata=stored.metadata)

    def __contains__(self, key: object) -> bool:
        """Return True if `add` has added a picture with this id."""
        return isinstance(key, str) and self.get(key) is not None

    def __len__(self) -> int:
        """Return the number of pictures; 0 for an index that does not exist."""
        if not self.exists():
            return 0
        with self._session.catalog() as catalog, catalog.snapshot() as snapshot:
            return snapshot.pictures

    def __bool__(self) -> bool:
        """Return True: an index without pictures is an index, too."""
        return True

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all pictures, in the order of their ids."""
        after_id = 0
        while items := self.list_items(after_id, ITEMS_PER_PAGE):
            yield from items
            after_id = items[-1].id

    def list_items(
        self,
        after_id: int = 0,
        limit: int = ITEMS_PER_PAGE,
        *,
        filters: FilterValues | None = None,
    ) -> list[Item]:
        """Return the next pictures in the order of their ids.

        Args:
            after_id: Id of the last picture of the former page; 0 for the first page.
            limit: Maximum number of pictures.
            filters: Filters that the pictures must pass; see `search`.
        """
        if not self.exists():
            return []
        with self._session.catalog() as catalog, catalog.snapshot() as snapshot:
            if filters is None:
                records = snapshot.records(snapshot.list_ids(after_id, limit))
            else:
                from mmsearch.core.filter_tree import make_filter_tree  # noqa: PLC0415 - rare

                tree = make_filter_tree(to_filters(filters))
                passed = snapshot.filter_ids(tree)
                records = snapshot.records(passed[passed > after_id][:limit].tolist(), tree)
        return list(map(Item.from_record, records))

    def picture(self, image_id: PictureId) -> PictureRecord | None:
        """Return the record of a picture by its id (`Hit.id`); None if there is no such picture.

        A hit stands for its id.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        with self._session.catalog() as catalog, catalog.snapshot() as snapshot:
            try:
                record = snapshot.records([to_picture_id(image_id)])[0]
            except KeyError:
                return None
        return record if record.paths else None

    def thumbnail(self, hit: PictureId, edge_px: int = 256) -> bytes | None:
        """Return a JPEG thumbnail of a hit, or of the picture with an id.

        Its long side is at most ``edge_px`` pixels. Return None if the picture cannot be read, or
        if its file is missing, has changed since it was indexed, or is outside its folder.
        """
        try:
            record = self.picture(hit)
            if record is None:
                return None
            with self._session.originals() as originals:
                return originals.thumbnail(record, min(edge_px, MAX_JPEG_EDGE_PX), "JPEG")
        except (DecodeError, GoneError, ForbiddenError):
            return None

    def original(self, hit: PictureId) -> Path:
        """Return the path of a picture's file after verifying that its content is unchanged.

        The picture is given by a hit or by its id.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or its name is not that of a picture.
            DecodeError: The content is not a readable picture.
        """
        record = self.picture(hit)
        if record is None:
            raise GoneError(f"Index {self.name!r} has no picture {to_picture_id(hit)} any more.")
        with self._session.originals() as originals:
            return Path(os.fsdecode(originals.path_and_format(record)[0]))

    def read_original(self, picture: str | PictureId, *, public_only: bool = False) -> bytes:
        """Return the content of a picture: of its file, of its source, or as `add` kept it.

        Args:
            picture: A hit, its id, or the id that `add` was given.
            public_only: True to raise an error for a picture of a source that may be at a private
                address, instead of fetching it.

        Raises:
            GoneError: There is no such picture, its file or its source is missing or has changed,
                or the index keeps no original of it.
            ForbiddenError: The file is outside its folder, its name is not that of a picture, or
                its source may be at a private address.
            StorageError: The source cannot be read now.
            DecodeError: The content of a file is not a readable picture.
        """
        from mmsearch.maintenance.sources import read_original  # noqa: PLC0415 - searches never need it

        if isinstance(picture, str):
            item = self.get(picture)
            if item is None:
                raise GoneError(f"Index {self.name!r} has no record {picture!r}.")
            picture = item.id
        record = self.picture(picture)
        if record is None or not record.uri:
            return self.original(picture).read_bytes()
        with self._session.catalog() as catalog:
            return read_original(
                self._layout, self._settings, catalog, record, public_only=public_only
            )
