"""Reports of a server on pictures that clients add, delete and list by ids of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmsearch.core.results import Item, JsonObject


@dataclass(frozen=True)
class FailedRecord(JsonObject):
    """A picture that could not be added; a former one with its key stays.

    Attributes:
        record: Number of the record in the request, from 1.
        key: Its key; None if it has none.
        reason: Reason why it could not be added.
    """

    record: int
    key: str | None
    reason: str


@dataclass(frozen=True)
class WriteReport(JsonObject):
    """Result of adding pictures to an index on a server.

    Attributes:
        added: Number of pictures with a new key.
        updated: Number of pictures with a known key and another content, other texts or metadata.
        unchanged: Number of pictures that were as they are.
        failed: Pictures that could not be added.
    """

    added: int
    updated: int
    unchanged: int
    failed: tuple[FailedRecord, ...] = ()

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        failed = tuple(map(FailedRecord.from_dict, values["failed"]))
        return super()._parse(values) | {"failed": failed}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return super().to_dict() | {"failed": [failure.to_dict() for failure in self.failed]}


@dataclass(frozen=True)
class DeleteReport(JsonObject):
    """Result of deleting pictures from an index on a server.

    Attributes:
        deleted: Number of pictures that were deleted.
        missing: Keys without a picture.
    """

    deleted: int
    missing: tuple[str, ...] = ()

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {"missing": tuple(values["missing"])}


@dataclass(frozen=True)
class ItemsPage(JsonObject):
    """A page of the pictures of an index, in the order of their ids.

    Attributes:
        items: The pictures.
        next_cursor: Cursor of the next page; None on the last page.
    """

    items: tuple[Item, ...]
    next_cursor: str | None

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {"items": tuple(map(Item.from_dict, values["items"]))}
