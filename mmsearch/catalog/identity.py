"""What an index is bound to, as rows of the settings table."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mmsearch.catalog.clock import now
from mmsearch.catalog.files import Rows
from mmsearch.core.errors import EncoderMismatchError
from mmsearch.core.records import Identity
from mmsearch.core.texts import DEFAULT_SOURCES
from mmsearch.core.types import EncoderSpec, FusionSpec, SearchGoals, TextSource

if TYPE_CHECKING:
    from sqlalchemy import Connection


def read_identity(rows: Rows) -> Identity | None:
    """What the index is bound to; None before `write_identity`."""
    stored = rows.ask("SELECT key, value FROM settings")
    settings: dict[str, Any] = {key: json.loads(value) for key, value in stored}
    if "encoder" not in settings:
        return None
    return Identity(
        encoder=EncoderSpec(**settings["encoder"]),
        fusion=_fusion(settings["fusion"]),
        vector_index=settings["vector_index"],
        texts=tuple(TextSource(name) for name in settings.get("texts", DEFAULT_SOURCES)),
        goals=SearchGoals(**settings.get("goals", {})),
    )


def _fusion(stored: Any) -> FusionSpec:
    """The first schema kept the name alone."""
    return FusionSpec(stored) if isinstance(stored, str) else FusionSpec(**stored)


def write_identity(connection: Connection, identity: Identity) -> None:
    """Bind an index that holds no vectors, or change all but the encoder of one that does.

    Raises:
        EncoderMismatchError: There are vectors of an encoder with another fingerprint.
    """
    from sqlalchemy import select, update  # noqa: PLC0415 - queries only read

    from mmsearch.catalog.connections import rows_of  # noqa: PLC0415
    from mmsearch.catalog.tables import ImageRow, SegmentRow  # noqa: PLC0415

    bound = read_identity(rows_of(connection))
    if (
        bound is not None
        and bound.encoder.fingerprint != identity.encoder.fingerprint
        and connection.execute(select(SegmentRow.number).limit(1)).first() is not None
    ):
        raise EncoderMismatchError(
            f"The index holds vectors of {bound.encoder.name}, which vectors of"
            f" {identity.encoder.name} cannot be compared with.",
            "Use the encoder of the index, or make another index.",
            bound=bound.encoder.name,
            asked=identity.encoder.name,
        )
    replace_identity(connection, identity)
    if bound is not None and bound.texts != identity.texts:
        connection.execute(update(ImageRow).where(ImageRow.file_count > 0).values(retell=1))


def replace_identity(connection: Connection, identity: Identity) -> None:
    """Write an identity, whatever vectors there are: the caller has replaced them."""
    from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415 - queries only read

    from mmsearch.catalog.tables import SettingRow  # noqa: PLC0415

    settings: dict[str, Any] = {
        "encoder": asdict(identity.encoder),
        "fusion": asdict(identity.fusion),
        "vector_index": identity.vector_index,
        "texts": list(identity.texts),
        "goals": asdict(identity.goals),
        "mmsearch_version": _mmsearch_version(),
    }
    upsert = insert(SettingRow)
    upsert = upsert.on_conflict_do_update(
        index_elements=["key"], set_={"value": upsert.excluded.value}
    )
    connection.execute(upsert, [{"key": key, "value": value} for key, value in settings.items()])
    connection.execute(
        insert(SettingRow).on_conflict_do_nothing(), {"key": "created_at", "value": now()}
    )


def _mmsearch_version() -> str:
    """For whoever looks into an old catalog; not from the package's root, which lies above."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - writers only

    try:
        return version("mmsearch")
    except PackageNotFoundError:
        return "unknown"
