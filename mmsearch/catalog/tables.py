"""SQLAlchemy models of a catalog's tables; `migrations` creates them, and a test compares both.

::

    roots 1──n files n──1 images n──1 segments          generations n──1 built_indexes
                            1──n texts 1──n tags

Triggers on ``files`` maintain `images.file_count`, the number of files with a content. An image
without files is a tombstone: its row remains, so that its vector can be reused. A picture whose
texts have changed gets a new row in ``images``, with the vectors of the new texts; the old row is
superseded and never used again. Times without a unit in their name are ISO 8601 in UTC.

Triggers also maintain two full-text tables, ``words`` and ``trigrams``, over the column
``texts.text`` (FTS5 with external content, https://www.sqlite.org/fts5.html); see
`mmsearch.catalog.full_text`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    REAL,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
)
from sqlalchemy import text as sql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base class of all tables: the mapping from Python types to column types."""

    type_annotation_map = {bytes: LargeBinary, str: Text, float: REAL, dict[str, Any]: JSON}  # noqa: RUF012


class MigrationRow(Base):
    """A migration that was applied to the schema."""

    __tablename__ = "migrations"

    name: Mapped[str] = mapped_column(primary_key=True)
    applied_at: Mapped[str]


class SettingRow(Base):
    """A setting of the whole index; see `mmsearch.catalog.identity`."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)


class RootRow(Base):
    """An indexed folder; no root lies inside another."""

    __tablename__ = "roots"
    __table_args__ = (
        UniqueConstraint("name"),
        UniqueConstraint("path"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    path: Mapped[bytes]


class SegmentRow(Base):
    """An immutable file of vectors."""

    __tablename__ = "segments"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    rows: Mapped[int]
    dim: Mapped[int]


class ImageRow(Base):
    """A content that has a vector. AUTOINCREMENT prevents the reuse of ids.

    ``texts_digest`` is the digest of the texts whose vectors are in the segment. ``retell`` is the
    stale flag: 1 if the picture's texts may have changed since. The digest of a superseded row
    matches no content.
    """

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("digest"),
        Index("images_dead", "id", sqlite_where=sql("file_count = 0")),
        Index("images_segment", "segment"),
        Index("images_retell", "id", sqlite_where=sql("retell = 1")),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[bytes]
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]
    taken_at: Mapped[str | None]
    segment: Mapped[int] = mapped_column(ForeignKey("segments.number"))
    file_count: Mapped[int] = mapped_column(server_default=sql("0"))
    camera: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    texts_digest: Mapped[bytes] = mapped_column(server_default=sql("x''"))
    retell: Mapped[int] = mapped_column(server_default=sql("0"))
    superseded: Mapped[int] = mapped_column(server_default=sql("0"))


class TextRow(Base):
    """A text that belongs to a picture, or, with a ``file_id``, to one of its files.

    ``table_path`` is the absolute path of the caption table that a text came from.
    """

    __tablename__ = "texts"
    __table_args__ = (
        Index("texts_image_id", "image_id"),
        Index("texts_file_id", "file_id"),
        Index("texts_said", "source", sqlite_where=sql("source <> 'filename'")),
        Index("texts_of_tables", "table_path", sqlite_where=sql("table_path IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    kind: Mapped[str]
    language: Mapped[str | None]
    text: Mapped[str]
    file_id: Mapped[int | None] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"))
    source: Mapped[str] = mapped_column(server_default=sql("'metadata'"))
    spaceless: Mapped[int] = mapped_column(server_default=sql("0"))
    table_path: Mapped[bytes | None]


class TagRow(Base):
    """One keyword of a text of kind ``keywords``, casefolded."""

    __tablename__ = "tags"
    __table_args__ = (Index("tags_tag", "tag", "image_id"), Index("tags_text_id", "text_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    text_id: Mapped[int] = mapped_column(ForeignKey("texts.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    tag: Mapped[str]


class FileRow(Base):
    """A file as it was last read: its picture, or the error that prevented reading it."""

    __tablename__ = "files"
    __table_args__ = (
        UniqueConstraint("root_id", "path"),
        CheckConstraint("(image_id IS NULL) <> (error IS NULL)", name="picture_or_error"),
        Index("files_image_id", "image_id"),
        Index("files_digest", "digest"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id"))
    path: Mapped[bytes]
    size: Mapped[int]
    mtime_ns: Mapped[int]
    checked_ns: Mapped[int]
    digest: Mapped[bytes]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"))
    error: Mapped[str | None]
    texts_key: Mapped[bytes] = mapped_column(server_default=sql("x''"))


class FolderRow(Base):
    """A folder in which a run found nothing left to do; see `mmsearch.catalog.file_state`."""

    __tablename__ = "folders"

    root_id: Mapped[int] = mapped_column(
        ForeignKey("roots.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[bytes] = mapped_column(primary_key=True)
    digest: Mapped[bytes]
    pictures: Mapped[int]
    failed: Mapped[int]


class StagedSegmentRow(Base):
    """A staged segment; it replaces others once every picture is in a staged segment."""

    __tablename__ = "staged_segments"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    rows: Mapped[int]
    dim: Mapped[int]
    encoder: Mapped[str]


class StagedImageRow(Base):
    """A picture whose vectors are in a staged segment, and the digest of their texts."""

    __tablename__ = "staged_images"

    image_id: Mapped[int] = mapped_column(primary_key=True)
    segment: Mapped[int] = mapped_column(ForeignKey("staged_segments.number"))
    texts_digest: Mapped[bytes]


class BuiltIndexRow(Base):
    """A vector index built from the segments up to number ``covers``."""

    __tablename__ = "built_indexes"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    plugin: Mapped[str]
    name: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    rows: Mapped[int]
    covers: Mapped[int]
    settings: Mapped[dict[str, Any]]


class GenerationRow(Base):
    """A state of the index that readers see; readers use the newest one."""

    __tablename__ = "generations"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    number: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[str]
    built_id: Mapped[int | None] = mapped_column(ForeignKey("built_indexes.id"))


class RunRow(Base):
    """One run of the indexer."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[str]
    finished_at: Mapped[str | None]
    outcome: Mapped[str]
    counts: Mapped[dict[str, Any]]
