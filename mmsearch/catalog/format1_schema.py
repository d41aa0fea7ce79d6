"""Statements of the migrations to the schemas of format 1, which never change."""

from __future__ import annotations

FIRST_TABLES = (
    """
    CREATE TABLE migrations (
        name TEXT NOT NULL PRIMARY KEY,
        applied_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE settings (
        key TEXT NOT NULL PRIMARY KEY,
        value JSON NOT NULL
    )""",
    """
    CREATE TABLE roots (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        UNIQUE (name),
        UNIQUE (path)
    )""",
    """
    CREATE TABLE segments (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        rows INTEGER NOT NULL,
        dim INTEGER NOT NULL,
        UNIQUE (name)
    )""",
    """
    CREATE TABLE images (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        format TEXT NOT NULL,
        taken_at TEXT,
        segment INTEGER NOT NULL REFERENCES segments (number),
        file_count INTEGER NOT NULL DEFAULT 0,
        UNIQUE (digest)
    )""",
    "CREATE INDEX images_dead ON images (id) WHERE file_count = 0",
    """
    CREATE TABLE texts (
        id INTEGER NOT NULL PRIMARY KEY,
        image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        language TEXT,
        text TEXT NOT NULL
    )""",
    "CREATE INDEX texts_image_id ON texts (image_id)",
    """
    CREATE TABLE files (
        id INTEGER NOT NULL PRIMARY KEY,
        root_id INTEGER NOT NULL REFERENCES roots (id),
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        checked_ns INTEGER NOT NULL,
        digest BLOB NOT NULL,
        image_id INTEGER REFERENCES images (id),
        error TEXT,
        UNIQUE (root_id, path),
        CONSTRAINT picture_or_error CHECK ((image_id IS NULL) <> (error IS NULL))
    )""",
    "CREATE INDEX files_image_id ON files (image_id)",
    "CREATE INDEX files_digest ON files (digest)",
    """
    CREATE TABLE built_indexes (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        plugin TEXT NOT NULL,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        rows INTEGER NOT NULL,
        covers INTEGER NOT NULL,
        settings JSON NOT NULL
    )""",
    """
    CREATE TABLE generations (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        created_at TEXT NOT NULL,
        built_id INTEGER REFERENCES built_indexes (id)
    )""",
    """
    CREATE TABLE runs (
        id INTEGER NOT NULL PRIMARY KEY,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        outcome TEXT NOT NULL,
        counts JSON NOT NULL
    )""",
)

# An upsert of an existing row fires the UPDATE trigger, not the INSERT trigger.
FILE_COUNT_TRIGGERS = (
    """
    CREATE TRIGGER files_inserted AFTER INSERT ON files WHEN NEW.image_id IS NOT NULL
    BEGIN
        UPDATE images SET file_count = file_count + 1 WHERE id = NEW.image_id;
    END""",
    """
    CREATE TRIGGER files_deleted AFTER DELETE ON files WHEN OLD.image_id IS NOT NULL
    BEGIN
        UPDATE images SET file_count = file_count - 1 WHERE id = OLD.image_id;
    END""",
    """
    CREATE TRIGGER files_changed AFTER UPDATE OF image_id ON files
    WHEN OLD.image_id IS NOT NEW.image_id
    BEGIN
        UPDATE images SET file_count = file_count - 1 WHERE id = OLD.image_id;
        UPDATE images SET file_count = file_count + 1 WHERE id = NEW.image_id;
    END""",
)

TEXT_COLUMNS = (
    "ALTER TABLE images ADD COLUMN camera TEXT",
    "ALTER TABLE images ADD COLUMN latitude REAL",
    "ALTER TABLE images ADD COLUMN longitude REAL",
    "ALTER TABLE images ADD COLUMN texts_digest BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE images ADD COLUMN retell INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE images ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX images_retell ON images (id) WHERE retell = 1",
    "ALTER TABLE files ADD COLUMN texts_key BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE texts ADD COLUMN file_id INTEGER REFERENCES files (id) ON DELETE CASCADE",
    "ALTER TABLE texts ADD COLUMN source TEXT NOT NULL DEFAULT 'metadata'",
    "ALTER TABLE texts ADD COLUMN spaceless INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX texts_file_id ON texts (file_id)",
    """
    CREATE TABLE tags (
        id INTEGER NOT NULL PRIMARY KEY,
        text_id INTEGER NOT NULL REFERENCES texts (id) ON DELETE CASCADE,
        image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        tag TEXT NOT NULL
    )""",
    "CREATE INDEX tags_tag ON tags (tag, image_id)",
    "CREATE INDEX tags_text_id ON tags (text_id)",
)

FULL_TEXT_TABLES = (
    """
    CREATE VIRTUAL TABLE words USING fts5 (
        text, content = 'texts', content_rowid = 'id',
        tokenize = 'porter unicode61 remove_diacritics 2'
    )""",
    """
    CREATE VIRTUAL TABLE trigrams USING fts5 (
        text, content = 'texts', content_rowid = 'id', tokenize = 'trigram'
    )""",
    """
    CREATE TRIGGER texts_inserted AFTER INSERT ON texts
    BEGIN
        INSERT INTO words (rowid, text) VALUES (NEW.id, NEW.text);
        UPDATE images SET retell = 1 WHERE id = NEW.image_id AND retell = 0;
    END""",
    """
    CREATE TRIGGER texts_deleted AFTER DELETE ON texts
    BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
        UPDATE images SET retell = 1 WHERE id = OLD.image_id AND retell = 0;
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
    "INSERT INTO words (rowid, text) SELECT id, text FROM texts",
    "UPDATE images SET retell = 1 WHERE id IN (SELECT image_id FROM texts)",
)

STAGING_TABLES = (
    """
    CREATE TABLE staged_segments (
        number INTEGER NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        rows INTEGER NOT NULL,
        dim INTEGER NOT NULL,
        encoder TEXT NOT NULL
    )""",
    """
    CREATE TABLE staged_images (
        image_id INTEGER NOT NULL PRIMARY KEY,
        segment INTEGER NOT NULL REFERENCES staged_segments (number),
        texts_digest BLOB NOT NULL
    )""",
    "CREATE INDEX images_segment ON images (segment)",
)

# Every query checks if there is any text other than file names.
TEXT_SOURCE_INDEX = ("CREATE INDEX texts_said ON texts (source) WHERE source <> 'filename'",)

FOLDER_TABLE = (
    """
    CREATE TABLE folders (
        root_id INTEGER NOT NULL REFERENCES roots (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        digest BLOB NOT NULL,
        pictures INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        PRIMARY KEY (root_id, path)
    )""",
    """
    CREATE TRIGGER folders_of_inserted_files AFTER INSERT ON files
    BEGIN
        DELETE FROM folders WHERE root_id = NEW.root_id;
    END""",
    """
    CREATE TRIGGER folders_of_deleted_files AFTER DELETE ON files
    BEGIN
        DELETE FROM folders WHERE root_id = OLD.root_id;
    END""",
    """
    CREATE TRIGGER folders_of_changed_files AFTER UPDATE ON files
    BEGIN
        DELETE FROM folders WHERE root_id IN (OLD.root_id, NEW.root_id);
    END""",
)

# Captions stored before this migration have an unknown table.
CAPTION_TABLES = (
    "ALTER TABLE texts ADD COLUMN table_path BLOB",
    "CREATE INDEX texts_of_tables ON texts (table_path) WHERE table_path IS NOT NULL",
)

# `images` has the metadata that searches see. If files of a picture have metadata around them,
# `images.embedded` keeps that of the picture file itself.
MORE_METADATA = (
    "ALTER TABLE images ADD COLUMN taken_from TEXT",
    "ALTER TABLE images ADD COLUMN lens TEXT",
    "ALTER TABLE images ADD COLUMN rating INTEGER",
    "ALTER TABLE images ADD COLUMN label TEXT",
    "ALTER TABLE images ADD COLUMN damage TEXT",
    "ALTER TABLE images ADD COLUMN embedded TEXT",
    "ALTER TABLE images ADD COLUMN must_merge INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX images_must_merge ON images (id) WHERE must_merge = 1",
    "CREATE INDEX images_damaged ON images (id) WHERE damage IS NOT NULL",
    "UPDATE images SET taken_from = 'exif' WHERE taken_at IS NOT NULL",
    "ALTER TABLE files ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE files ADD COLUMN metadata TEXT",
    "ALTER TABLE tags ADD COLUMN kind TEXT NOT NULL DEFAULT 'keywords'",
    """
    CREATE TRIGGER metadata_of_inserted_files AFTER INSERT ON files WHEN NEW.metadata IS NOT NULL
    BEGIN
        UPDATE images SET must_merge = 1 WHERE id = NEW.image_id;
    END""",
    """
    CREATE TRIGGER metadata_of_deleted_files AFTER DELETE ON files WHEN OLD.metadata IS NOT NULL
    BEGIN
        UPDATE images SET must_merge = 1 WHERE id = OLD.image_id;
    END""",
    """
    CREATE TRIGGER metadata_of_changed_files AFTER UPDATE ON files
    WHEN OLD.metadata IS NOT NEW.metadata
        OR (OLD.image_id IS NOT NEW.image_id AND NEW.metadata IS NOT NULL)
    BEGIN
        UPDATE images SET must_merge = 1 WHERE id IN (OLD.image_id, NEW.image_id);
    END""",
)

SKIPPED_FILES = (
    """
    CREATE TABLE skipped_files (
        root_id INTEGER NOT NULL REFERENCES roots (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (root_id, path)
    )""",
)
