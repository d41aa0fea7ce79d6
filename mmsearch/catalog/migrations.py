"""Schema migrations: small named steps in plain SQL.

A released migration never changes. A change of the tables is a new migration at the end of
`MIGRATIONS`. The result:

::

    sources 1──n assets n──1 contents 1──n items 1──n texts 1──n tags
                                           items 1──n embeddings n──1 segments n──1 spaces

Triggers on ``assets`` maintain `contents.asset_count`, the number of assets with a content, and
`items.is_live`. An item of a content without assets is a tombstone: its row remains, so that its
embedding can be reused. The id of an item never changes: if its texts change, its new embedding is
in a newer segment, and the former row is in ``stale_rows``. Times without a unit in their name are
ISO 8601 in UTC.

Triggers also maintain two full-text tables, ``words`` and ``trigrams``, over the column
``texts.text`` (FTS5 with external content, https://www.sqlite.org/fts5.html); see
`mmsearch.catalog.full_text`.

- ``sources``: where assets lie. The ``uri`` of a folder is its path; no folder lies inside another.
- ``parts``: a part of a source, such as a folder below it, in which a run found nothing left to do.
- ``assets``: one place of a content: its key is unique in its source, such as a relative path. It
  has a content, or the error that prevented reading it. ``metadata`` is what its sidecars and its
  path say about it, and ``record`` the metadata that its source or a caller gave it, both as JSON.
  Outside of folders it belongs to a ``part``, and its ``stamp`` changes with its content.
- ``contents``: what the bytes of assets are, once per digest (sha256).
- ``items``: what a hit is: a part of a content. A still picture is one item, with part 0. A moment
  of a film has ``start_ms`` and ``end_ms``, a page of a document a ``page``, counted from 1. Texts
  of assets belong to the first item. ``has_pixels`` is 0 for an item of texts alone, which has no
  embedding.
  AUTOINCREMENT prevents the reuse of ids. ``must_merge`` is 1 if the metadata of its assets has
  changed and is not merged yet; ``embedded`` is that of the picture file itself.
- ``texts``: a text of an item, or, with an ``asset_id``, of one of its assets. ``table_path`` is
  the absolute path of the caption table that it came from. ``boxes`` are the places in the picture
  where it was read, as JSON.
  One that a model made has its fingerprint as ``made_by``; then ``source`` names the enricher.
- ``derived``: the work of an enricher on a content: ``done``, ``failed`` with an ``error``, or
  ``partial`` up to a time. What has no row with its fingerprint is left to do.
- ``derived_files``: an immutable file of derived texts, from which a lost catalog gets them again.
- ``tags``: one value of a text of kind ``keywords``, ``people``, ``place`` or ``tag``, casefolded.
- ``spaces``: the embeddings of one encoder, by its fingerprint. One space is ``serving``; another
  may be ``building``, and replaces it once every live item is in it. The settings name the encoder
  of the serving one, which has no fingerprint here until they are written.
- ``segments``: an immutable file of vectors of one space.
- ``embeddings``: the segment with the vectors of an item in a space, and the digest of the texts
  that were encoded. ``stale`` is 1 if the texts may have changed since, and 2 if the picture must
  be encoded again, too.
- ``stale_rows``: rows of segments that hold a former embedding of an item.
- ``duplicates``: a content that others are nearly the same as (``near_id``), or that is in a burst
  (``stack_id``, which includes near duplicates). Both are the smallest content id of the group.
- ``suggestions``: a word that a query may be completed to, ``folded`` without case and accents.
  ``pictures`` is the number of pictures whose texts hold it; 0 for a word that a model sees in the
  item, with that ``confidence``.
- ``field_log``: one row while a collection on a search server is used: triggers write the items up
  to ``max_item_id`` whose fields change to ``field_changes``, with the ``epoch``; rows up to
  ``kept_after`` are gone. See `mmsearch.catalog.field_changes`.
- ``skipped_files``: a file that is not read, and why.
- ``built_indexes``: a vector index built from the segments up to number ``covers``.
- ``generations``: a state of the index that readers see; readers use the newest one.
- ``runs``: one run of the indexer.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmsearch.catalog.format1_schema import (
    CAPTION_TABLES,
    FILE_COUNT_TRIGGERS,
    FIRST_TABLES,
    FOLDER_TABLE,
    FULL_TEXT_TABLES,
    MORE_METADATA,
    SKIPPED_FILES,
    STAGING_TABLES,
    TEXT_COLUMNS,
    TEXT_SOURCE_INDEX,
)


@dataclass(frozen=True)
class Migration:
    """A migration of the schema.

    Attributes:
        name: Unique name, stored in the database.
        statements: SQL statements, run in this order in one transaction.
    """

    name: str
    statements: tuple[str, ...]


# Format 2. The tables of items, sources and spaces replace those of images, roots and staged
# segments. Ids of images become ids of items and of contents. Superseded images have no item: their
# rows of segments are stale. Children are dropped before their parents, so that no row cascades.
_NEW_TABLES = (
    """
    CREATE TABLE sources (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        uri BLOB NOT NULL,
        choices JSON NOT NULL,
        UNIQUE (name),
        UNIQUE (uri)
    )""",
    """
    CREATE TABLE contents (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL,
        kind TEXT NOT NULL,
        asset_count INTEGER NOT NULL DEFAULT 0,
        UNIQUE (digest)
    )""",
    """
    CREATE TABLE items (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        content_id INTEGER NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
        part INTEGER NOT NULL DEFAULT 0,
        is_live INTEGER NOT NULL DEFAULT 0,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        format TEXT NOT NULL,
        damage TEXT,
        taken_at TEXT,
        taken_from TEXT,
        camera TEXT,
        lens TEXT,
        latitude REAL,
        longitude REAL,
        rating INTEGER,
        label TEXT,
        embedded TEXT,
        must_merge INTEGER NOT NULL DEFAULT 0,
        UNIQUE (content_id, part)
    )""",
    """
    CREATE TABLE assets (
        id INTEGER NOT NULL PRIMARY KEY,
        source_id INTEGER NOT NULL REFERENCES sources (id),
        key BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL DEFAULT 0,
        checked_ns INTEGER NOT NULL,
        digest BLOB NOT NULL,
        content_id INTEGER REFERENCES contents (id),
        error TEXT,
        texts_key BLOB NOT NULL DEFAULT x'',
        metadata TEXT,
        part BLOB,
        stamp BLOB,
        record TEXT,
        UNIQUE (source_id, key),
        CONSTRAINT content_or_error CHECK ((content_id IS NULL) <> (error IS NULL))
    )""",
    """
    CREATE TABLE parts (
        source_id INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
        key BLOB NOT NULL,
        stamp BLOB NOT NULL,
        items INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        PRIMARY KEY (source_id, key)
    )""",
    """
    CREATE TABLE spaces (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        encoder TEXT NOT NULL,
        state TEXT NOT NULL,
        UNIQUE (state)
    )""",
    """
    CREATE TABLE embeddings (
        item_id INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
        space_id INTEGER NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
        segment INTEGER NOT NULL REFERENCES segments (number),
        texts_digest BLOB NOT NULL,
        stale INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (item_id, space_id)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE stale_rows (
        segment INTEGER NOT NULL REFERENCES segments (number) ON DELETE CASCADE,
        item_id INTEGER NOT NULL,
        PRIMARY KEY (segment, item_id)
    ) WITHOUT ROWID""",
    "ALTER TABLE segments ADD COLUMN space_id INTEGER REFERENCES spaces (id)",
)

_COPY_TO_NEW_TABLES = (
    "INSERT INTO sources (id, kind, name, uri, choices)"
    " SELECT id, 'folder', name, path, '{}' FROM roots",
    "INSERT INTO contents (id, digest, kind, asset_count)"
    " SELECT id, digest, 'image', file_count FROM images WHERE superseded = 0",
    "INSERT INTO items (id, content_id, is_live, width, height, format, damage, taken_at,"
    " taken_from, camera, lens, latitude, longitude, rating, label, embedded, must_merge)"
    " SELECT id, id, file_count > 0, width, height, format, damage, taken_at,"
    " taken_from, camera, lens, latitude, longitude, rating, label, embedded, must_merge"
    " FROM images WHERE superseded = 0",
    "INSERT INTO assets (id, source_id, key, size, mtime_ns, ctime_ns, checked_ns, digest,"
    " content_id, error, texts_key, metadata)"
    " SELECT id, root_id, path, size, mtime_ns, ctime_ns, checked_ns, digest,"
    " image_id, error, texts_key, metadata FROM files",
    "INSERT INTO parts (source_id, key, stamp, items, failed)"
    " SELECT root_id, path, digest, pictures, failed FROM folders",
    "INSERT INTO spaces (id, encoder, state) VALUES (1, '', 'serving')",
    "INSERT INTO spaces (id, encoder, state)"
    " SELECT 2, encoder, 'building' FROM staged_segments LIMIT 1",
    "UPDATE segments SET space_id = 1",
    "INSERT INTO segments (number, name, bytes, sha256, rows, dim, space_id)"
    " SELECT number, name, bytes, sha256, rows, dim, 2 FROM staged_segments",
    "INSERT INTO embeddings (item_id, space_id, segment, texts_digest, stale)"
    " SELECT id, 1, segment, texts_digest, retell FROM images WHERE superseded = 0",
    "INSERT INTO embeddings (item_id, space_id, segment, texts_digest)"
    " SELECT image_id, 2, segment, texts_digest FROM staged_images"
    " WHERE image_id IN (SELECT id FROM items)",
    "INSERT INTO stale_rows (segment, item_id) SELECT segment, id FROM images WHERE superseded = 1",
    "INSERT INTO stale_rows (segment, item_id)"
    " SELECT segment, image_id FROM staged_images WHERE image_id NOT IN (SELECT id FROM items)",
    # Ids of removed pictures are never used again.
    "DELETE FROM sqlite_sequence WHERE name IN ('sources', 'contents', 'items')",
    "INSERT INTO sqlite_sequence (name, seq)"
    " SELECT replace(replace(name, 'roots', 'sources'), 'images', 'items'), seq"
    " FROM sqlite_sequence WHERE name IN ('roots', 'images')",
    "INSERT INTO sqlite_sequence (name, seq)"
    " SELECT 'contents', seq FROM sqlite_sequence WHERE name = 'images'",
)

_REPLACE_TEXTS_AND_SKIPPED = (
    "ALTER TABLE tags RENAME TO old_tags",
    "ALTER TABLE texts RENAME TO old_texts",
    "ALTER TABLE skipped_files RENAME TO old_skipped_files",
    """
    CREATE TABLE texts (
        id INTEGER NOT NULL PRIMARY KEY,
        item_id INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
        asset_id INTEGER REFERENCES assets (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        source TEXT NOT NULL,
        language TEXT,
        text TEXT NOT NULL,
        spaceless INTEGER NOT NULL DEFAULT 0,
        table_path BLOB
    )""",
    "INSERT INTO texts (id, item_id, asset_id, kind, source, language, text, spaceless, table_path)"
    " SELECT id, image_id, file_id, kind, source, language, text, spaceless, table_path"
    " FROM old_texts",
    """
    CREATE TABLE tags (
        id INTEGER NOT NULL PRIMARY KEY,
        text_id INTEGER NOT NULL REFERENCES texts (id) ON DELETE CASCADE,
        item_id INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        tag TEXT NOT NULL
    )""",
    "INSERT INTO tags (id, text_id, item_id, kind, tag)"
    " SELECT id, text_id, image_id, kind, tag FROM old_tags",
    """
    CREATE TABLE skipped_files (
        source_id INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
        key BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (source_id, key)
    )""",
    "INSERT INTO skipped_files (source_id, key, size, mtime_ns, reason)"
    " SELECT root_id, path, size, mtime_ns, reason FROM old_skipped_files",
    *(
        f"DROP TABLE {table}"
        for table in (
            "old_tags",
            "old_texts",
            "old_skipped_files",
            "staged_images",
            "staged_segments",
            "files",
            "images",
            "folders",
            "roots",
        )
    ),
)

_NEW_INDEXES = (
    "CREATE INDEX items_dead ON items (id) WHERE is_live = 0",
    "CREATE INDEX items_must_merge ON items (id) WHERE must_merge = 1",
    "CREATE INDEX items_damaged ON items (id) WHERE damage IS NOT NULL",
    "CREATE INDEX assets_content_id ON assets (content_id)",
    "CREATE INDEX assets_digest ON assets (digest)",
    "CREATE INDEX assets_part ON assets (source_id, part) WHERE part IS NOT NULL",
    "CREATE INDEX embeddings_segment ON embeddings (segment)",
    "CREATE INDEX embeddings_stale ON embeddings (space_id, item_id) WHERE stale > 0",
    "CREATE INDEX texts_item_id ON texts (item_id)",
    "CREATE INDEX texts_asset_id ON texts (asset_id)",
    "CREATE INDEX texts_said ON texts (source) WHERE source <> 'filename'",
    "CREATE INDEX texts_of_tables ON texts (table_path) WHERE table_path IS NOT NULL",
    "CREATE INDEX tags_tag ON tags (tag, item_id)",
    "CREATE INDEX tags_text_id ON tags (text_id)",
)

_NEW_TRIGGERS = (
    """
    CREATE TRIGGER assets_inserted AFTER INSERT ON assets WHEN NEW.content_id IS NOT NULL
    BEGIN
        UPDATE contents SET asset_count = asset_count + 1 WHERE id = NEW.content_id;
    END""",
    """
    CREATE TRIGGER assets_deleted AFTER DELETE ON assets WHEN OLD.content_id IS NOT NULL
    BEGIN
        UPDATE contents SET asset_count = asset_count - 1 WHERE id = OLD.content_id;
    END""",
    """
    CREATE TRIGGER assets_changed AFTER UPDATE OF content_id ON assets
    WHEN OLD.content_id IS NOT NEW.content_id
    BEGIN
        UPDATE contents SET asset_count = asset_count - 1 WHERE id = OLD.content_id;
        UPDATE contents SET asset_count = asset_count + 1 WHERE id = NEW.content_id;
    END""",
    """
    CREATE TRIGGER contents_counted AFTER UPDATE OF asset_count ON contents
    WHEN (OLD.asset_count > 0) <> (NEW.asset_count > 0)
    BEGIN
        UPDATE items SET is_live = NEW.asset_count > 0 WHERE content_id = NEW.id;
    END""",
    """
    CREATE TRIGGER texts_inserted AFTER INSERT ON texts
    BEGIN
        INSERT INTO words (rowid, text) VALUES (NEW.id, NEW.text);
        UPDATE embeddings SET stale = 1 WHERE item_id = NEW.item_id AND stale = 0;
    END""",
    """
    CREATE TRIGGER texts_deleted AFTER DELETE ON texts
    BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
        UPDATE embeddings SET stale = 1 WHERE item_id = OLD.item_id AND stale = 0;
    END""",
    """
    CREATE TRIGGER spaceless_texts_inserted AFTER INSERT ON texts WHEN NEW.spaceless
    BEGIN
        INSERT INTO trigrams (rowid, text) VALUES (NEW.id, NEW.text);
    END""",
    """
    CREATE TRIGGER spaceless_texts_deleted AFTER DELETE ON texts WHEN OLD.spaceless
    BEGIN
        INSERT INTO trigrams (trigrams, rowid, text) VALUES ('delete', OLD.id, OLD.text);
    END""",
    # The parts of other sources are known by a stamp of their own.
    """
    CREATE TRIGGER parts_of_inserted_assets AFTER INSERT ON assets
    WHEN (SELECT kind FROM sources WHERE id = NEW.source_id) = 'folder'
    BEGIN
        DELETE FROM parts WHERE source_id = NEW.source_id;
    END""",
    """
    CREATE TRIGGER parts_of_deleted_assets AFTER DELETE ON assets
    WHEN (SELECT kind FROM sources WHERE id = OLD.source_id) = 'folder'
    BEGIN
        DELETE FROM parts WHERE source_id = OLD.source_id;
    END""",
    """
    CREATE TRIGGER parts_of_changed_assets AFTER UPDATE ON assets
    WHEN (SELECT kind FROM sources WHERE id = NEW.source_id) = 'folder'
    BEGIN
        DELETE FROM parts WHERE source_id IN (OLD.source_id, NEW.source_id);
    END""",
    """
    CREATE TRIGGER metadata_of_inserted_assets AFTER INSERT ON assets
    WHEN NEW.metadata IS NOT NULL
    BEGIN
        UPDATE items SET must_merge = 1 WHERE content_id = NEW.content_id;
    END""",
    """
    CREATE TRIGGER metadata_of_deleted_assets AFTER DELETE ON assets WHEN OLD.metadata IS NOT NULL
    BEGIN
        UPDATE items SET must_merge = 1 WHERE content_id = OLD.content_id;
    END""",
    """
    CREATE TRIGGER metadata_of_changed_assets AFTER UPDATE ON assets
    WHEN OLD.metadata IS NOT NEW.metadata
        OR (OLD.content_id IS NOT NEW.content_id AND NEW.metadata IS NOT NULL)
    BEGIN
        UPDATE items SET must_merge = 1 WHERE content_id IN (OLD.content_id, NEW.content_id);
    END""",
)

_ITEMS = (
    *_NEW_TABLES,
    *_COPY_TO_NEW_TABLES,
    *_REPLACE_TEXTS_AND_SKIPPED,
    *_NEW_INDEXES,
    *_NEW_TRIGGERS,
)

# Parts beyond the first one are few in most indexes: searches that find none group no hits.
_MOMENTS = (
    "ALTER TABLE items ADD COLUMN start_ms INTEGER",
    "ALTER TABLE items ADD COLUMN end_ms INTEGER",
    "ALTER TABLE items ADD COLUMN page INTEGER",
    "CREATE INDEX items_moments ON items (is_live) WHERE part > 0",
)

# Texts that a model made change no embedding. The files have them again, for a lost catalog.
_DERIVED = (
    "ALTER TABLE texts ADD COLUMN made_by TEXT",
    "ALTER TABLE texts ADD COLUMN confidence REAL",
    "ALTER TABLE texts ADD COLUMN start_ms INTEGER",
    "ALTER TABLE texts ADD COLUMN end_ms INTEGER",
    """
    CREATE TABLE derived (
        content_id INTEGER NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
        enricher TEXT NOT NULL,
        made_by TEXT NOT NULL,
        state TEXT NOT NULL,
        upto_ms INTEGER,
        seconds REAL NOT NULL,
        error TEXT,
        PRIMARY KEY (content_id, enricher)
    ) WITHOUT ROWID""",
    "CREATE INDEX derived_enricher ON derived (enricher, made_by, state)",
    """
    CREATE TABLE derived_files (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        rows INTEGER NOT NULL,
        UNIQUE (name)
    )""",
    "DROP TRIGGER texts_inserted",
    "DROP TRIGGER texts_deleted",
    """
    CREATE TRIGGER texts_inserted AFTER INSERT ON texts
    BEGIN
        INSERT INTO words (rowid, text) VALUES (NEW.id, NEW.text);
        UPDATE embeddings SET stale = 1
        WHERE NEW.made_by IS NULL AND item_id = NEW.item_id AND stale = 0;
    END""",
    """
    CREATE TRIGGER texts_deleted AFTER DELETE ON texts
    BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
        UPDATE embeddings SET stale = 1
        WHERE OLD.made_by IS NULL AND item_id = OLD.item_id AND stale = 0;
    END""",
)

# Texts read in pictures have places in them. Items without pixels have texts alone, and no vector.
_TEXT_ITEMS = (
    "ALTER TABLE texts ADD COLUMN boxes TEXT",
    "ALTER TABLE items ADD COLUMN has_pixels INTEGER NOT NULL DEFAULT 1",
    "CREATE INDEX items_without_pixels ON items (is_live) WHERE has_pixels = 0",
)

# Contents that are no duplicates have no row, and most pictures have no coordinates.
_DUPLICATES = (
    "ALTER TABLE items ADD COLUMN perceptual_hash INTEGER",
    """
    CREATE TABLE duplicates (
        content_id INTEGER NOT NULL PRIMARY KEY REFERENCES contents (id) ON DELETE CASCADE,
        stack_id INTEGER NOT NULL,
        near_id INTEGER NOT NULL
    )""",
    "CREATE INDEX duplicates_stack ON duplicates (stack_id)",
    "CREATE INDEX items_located ON items (latitude) WHERE latitude IS NOT NULL",
    """
    CREATE TABLE suggestions (
        word TEXT NOT NULL PRIMARY KEY,
        folded TEXT NOT NULL,
        pictures INTEGER NOT NULL,
        confidence REAL NOT NULL,
        item_id INTEGER NOT NULL
    )""",
    "CREATE INDEX suggestions_folded ON suggestions (folded)",
    # Values of one kind are counted without reading the table.
    "DROP INDEX tags_tag",
    "CREATE INDEX tags_kind ON tags (kind, tag, item_id)",
)

# Items whose values of `mmsearch.catalog.filters.FIELD_EXPRESSIONS`, or tags, may have changed
# since a collection on a search server was built. Without such a server ``field_log`` is empty,
# each condition on it is false, and nothing is written. ON CONFLICT DO NOTHING, because the
# conflict clause of a statement replaces OR IGNORE in its triggers. Assets of one content have one
# size, so another place of it changes nothing.
_ITEMS_OF_CONTENT = """
        INSERT INTO field_changes (epoch, item_id)
        SELECT epoch, items.id FROM field_log, items
        WHERE items.content_id = {row}.content_id AND items.id <= max_item_id
        AND EXISTS (SELECT 1 FROM assets WHERE content_id = {row}.content_id)
        AND NOT EXISTS (SELECT 1 FROM assets AS other WHERE other.content_id = {row}.content_id
            AND other.id <> {row}.id AND other.size = {row}.size)
        ON CONFLICT DO NOTHING;"""
_ITEM_OF_TAG = """
        INSERT INTO field_changes (epoch, item_id)
        SELECT epoch, {row}.item_id FROM field_log WHERE {row}.item_id <= max_item_id
        ON CONFLICT DO NOTHING;"""
_IS_LOGGED = "(SELECT max_item_id FROM field_log) > 0"
_FIELD_CHANGES = (
    """
    CREATE TABLE field_log (
        max_item_id INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        kept_after INTEGER NOT NULL
    )""",
    """
    CREATE TABLE field_changes (
        epoch INTEGER NOT NULL,
        item_id INTEGER NOT NULL,
        PRIMARY KEY (epoch, item_id)
    ) WITHOUT ROWID""",
    f"""
    CREATE TRIGGER fields_of_new_assets AFTER INSERT ON assets
    WHEN NEW.content_id IS NOT NULL AND {_IS_LOGGED}
    BEGIN{_ITEMS_OF_CONTENT.format(row="NEW")}
    END""",
    f"""
    CREATE TRIGGER fields_of_deleted_assets AFTER DELETE ON assets
    WHEN OLD.content_id IS NOT NULL AND {_IS_LOGGED}
    BEGIN{_ITEMS_OF_CONTENT.format(row="OLD")}
    END""",
    f"""
    CREATE TRIGGER fields_of_changed_assets AFTER UPDATE OF content_id, size ON assets
    WHEN (OLD.content_id IS NOT NEW.content_id OR OLD.size <> NEW.size) AND {_IS_LOGGED}
    BEGIN{_ITEMS_OF_CONTENT.format(row="OLD")}{_ITEMS_OF_CONTENT.format(row="NEW")}
    END""",
    f"""
    CREATE TRIGGER fields_of_new_tags AFTER INSERT ON tags
    WHEN NEW.item_id <= (SELECT max_item_id FROM field_log)
    BEGIN{_ITEM_OF_TAG.format(row="NEW")}
    END""",  # noqa: S608
    f"""
    CREATE TRIGGER fields_of_deleted_tags AFTER DELETE ON tags
    WHEN OLD.item_id <= (SELECT max_item_id FROM field_log)
    BEGIN{_ITEM_OF_TAG.format(row="OLD")}
    END""",  # noqa: S608
    f"""
    CREATE TRIGGER fields_of_changed_tags AFTER UPDATE OF item_id, kind, tag ON tags
    WHEN {_IS_LOGGED}
    BEGIN{_ITEM_OF_TAG.format(row="OLD")}{_ITEM_OF_TAG.format(row="NEW")}
    END""",
    """
    CREATE TRIGGER fields_of_changed_items AFTER UPDATE OF content_id, width, height, format,
        taken_at, taken_from, camera, lens, rating, label, damage, latitude, longitude ON items
    WHEN NEW.id <= (SELECT max_item_id FROM field_log) AND (OLD.content_id <> NEW.content_id
        OR OLD.width <> NEW.width OR OLD.height <> NEW.height OR OLD.format <> NEW.format
        OR OLD.taken_at IS NOT NEW.taken_at OR OLD.taken_from IS NOT NEW.taken_from
        OR OLD.camera IS NOT NEW.camera OR OLD.lens IS NOT NEW.lens
        OR OLD.rating IS NOT NEW.rating OR OLD.label IS NOT NEW.label
        OR OLD.damage IS NOT NEW.damage OR OLD.latitude IS NOT NEW.latitude
        OR OLD.longitude IS NOT NEW.longitude)
    BEGIN
        INSERT INTO field_changes (epoch, item_id)
        SELECT epoch, NEW.id FROM field_log WHERE true ON CONFLICT DO NOTHING;
    END""",
    f"""
    CREATE TRIGGER fields_of_changed_contents AFTER UPDATE OF kind ON contents
    WHEN OLD.kind <> NEW.kind AND {_IS_LOGGED}
    BEGIN
        INSERT INTO field_changes (epoch, item_id)
        SELECT epoch, items.id FROM field_log, items
        WHERE items.content_id = NEW.id AND items.id <= max_item_id
        ON CONFLICT DO NOTHING;
    END""",  # noqa: S608
)

FORMAT1_SCHEMA = 10
"""The last schema of format 1; a backup of the catalog precedes its migration."""

MIGRATIONS: tuple[Migration, ...] = (
    Migration("first_tables", FIRST_TABLES),
    Migration("file_count_triggers", FILE_COUNT_TRIGGERS),
    Migration("texts_of_files_and_more_facts", TEXT_COLUMNS),
    Migration("full_text", FULL_TEXT_TABLES),
    Migration("staging", STAGING_TABLES),
    Migration("texts_said", TEXT_SOURCE_INDEX),
    Migration("folders", FOLDER_TABLE),
    Migration("tables_of_captions", CAPTION_TABLES),
    Migration("more_metadata", MORE_METADATA),
    Migration("skipped_files", SKIPPED_FILES),
    Migration("items_sources_spaces", _ITEMS),
    Migration("moments", _MOMENTS),
    Migration("derived_texts", _DERIVED),
    Migration("text_items", _TEXT_ITEMS),
    Migration("duplicates_and_suggestions", _DUPLICATES),
    Migration("field_changes", _FIELD_CHANGES),
)
