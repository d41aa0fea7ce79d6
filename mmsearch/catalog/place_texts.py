"""Names of places for items with coordinates: texts of kind ``place`` and source ``gps``.

They are made in the transaction that writes the coordinates, and again where the coordinates, the
place that a file names itself, or the data of the gazetteer have changed. No file keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, delete

from mmsearch.catalog.database import Database
from mmsearch.catalog.row_writes import save_setting
from mmsearch.catalog.rows import chunks, column_values
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import TEXTS
from mmsearch.catalog.texts import insert_texts
from mmsearch.core.texts import make_value_texts
from mmsearch.core.types import Text, TextSource

PLACES_KEY: Final = "places"
"""Key of the setting with the version of the data by which all items are named."""

_ITEMS = (
    "SELECT items.id, latitude, longitude, text, made_by FROM items"  # noqa: S608 - our own names
    f" LEFT JOIN texts ON item_id = items.id AND source = '{TextSource.GPS.value}'"
    f" WHERE items.id {{in_ids}} AND (latitude IS NOT NULL OR text IS NOT NULL)"
)
_OWN_NAMES = (
    "SELECT item_id, text FROM texts"
    " WHERE item_id {in_ids} AND kind = 'place' AND made_by IS NULL ORDER BY id"
)


def update_places(connection: Connection, item_ids: Collection[int]) -> None:
    """Name the places of items again; what has not changed is not written.

    Args:
        connection: A connection in a transaction.
        item_ids: Ids of items whose coordinates or texts may have changed.
    """
    db = as_read_connection(connection)
    rows = db.query(_ITEMS.format(in_ids=db.dialect.in_ids), [json.dumps(sorted(item_ids))])
    if not rows:
        return
    wanted = _name_items(db, {row[0]: (row[1], row[2]) for row in rows if row[1] is not None})
    changed = [
        (item_id, text is not None)
        for item_id, _, _, text, made_by in rows
        if (text, made_by) != _stored_form(wanted.get(item_id))
    ]
    for chunk in chunks([item_id for item_id, has_text in changed if has_text]):
        is_made = TEXTS.c.item_id.in_(chunk) & (TEXTS.c.source == TextSource.GPS.value)
        connection.execute(delete(TEXTS).where(is_made))
    new = [item_id for item_id, _ in changed if item_id in wanted]
    insert_texts(connection, [(item_id, None, wanted[item_id], None) for item_id in new])


def _stored_form(text: Text | None) -> tuple[str | None, str | None]:
    return (None, None) if text is None else (text.text, text.made_by)


def list_located(db: Database) -> list[int]:
    """Return the ids of the items with coordinates or with the name of a place of some."""
    return column_values(
        db,
        "SELECT id FROM items WHERE latitude IS NOT NULL"
        " UNION SELECT item_id FROM texts WHERE source = ? ORDER BY 1",
        [TextSource.GPS.value],
    )


def is_named(db: Database) -> bool:
    """Return True if all items are named by the data that this version has."""
    from mmsearch.core.places import data_version  # noqa: PLC0415 - reading needs no data

    stored = column_values(db, "SELECT value FROM settings WHERE key = ?", [PLACES_KEY])
    return stored == [json.dumps(data_version())]


def record_named(connection: Connection) -> None:
    """Record that all items are named by the data that this version has."""
    from mmsearch.core.places import data_version  # noqa: PLC0415

    save_setting(connection, PLACES_KEY, data_version())


def _name_items(db: Database, coordinates: Mapping[int, tuple[float, float]]) -> dict[int, Text]:
    """Return the text of each item that is near a city."""
    located = {
        item_id: (latitude, longitude)
        for item_id, (latitude, longitude) in coordinates.items()
        if abs(latitude) <= 90 and abs(longitude) <= 180
    }
    if not located:
        return {}
    # Only pictures with coordinates need the data.
    from mmsearch.core.coordinates import nearest_cities, place_names  # noqa: PLC0415
    from mmsearch.core.places import data_version  # noqa: PLC0415

    own: dict[int, list[str]] = {}
    for item_id, text in db.query(
        _OWN_NAMES.format(in_ids=db.dialect.in_ids), [json.dumps(list(located))]
    ):
        own.setdefault(item_id, []).extend(text.split(";"))
    cities = nearest_cities(*zip(*located.values(), strict=True))
    version = data_version()
    wanted = {}
    for (item_id, (latitude, longitude)), city in zip(located.items(), cities, strict=True):
        names = () if city is None else _add_to(own.get(item_id, ()), place_names(city))
        for text in make_value_texts("place", names, TextSource.GPS):
            made_by = f"{version}, {latitude:.5f} {longitude:.5f}"
            wanted[item_id] = replace(text, language="en", made_by=made_by)
    return wanted


def _add_to(own: Iterable[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that say more than those that the file says itself.

    The file is right about the city, if it names one; a name in another language says nothing new.
    """
    from mmsearch.core.places import fold_name, lookup  # noqa: PLC0415

    given = {fold_name(name) for name in own} - {""}
    if not given:
        return names
    areas = {"region", "country", "continent"}
    best = [places[0] for places in map(lookup, given) if places]
    names_city = len(best) < len(given) or any(place.kind not in areas for place in best)
    known = given | {fold_name(name) for place in best for name in place.names}
    return tuple(name for name in names[names_city:] if fold_name(name) not in known)
