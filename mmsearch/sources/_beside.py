"""Tables beside tars, as img2dataset writes them: 00000.parquet has rows for 00000.tar."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from mmsearch.core.texts import JSON_TEXT_FIELDS, iter_json_texts
from mmsearch.core.types import Text
from mmsearch.sources._rows import iter_rows, list_parts, read_columns, to_metadata

KEY_COLUMN: Final = "key"

_CACHE_KIB: Final = 8192


class TableBeside:
    """The rows of a table by their keys, in a temporary file rather than in memory.

    Args:
        path: A Parquet file.

    Raises:
        SourceError: It cannot be read.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        # SQLite keeps a database without a name in a file that it deletes.
        self._rows = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        try:
            self._rows.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._rows.execute("CREATE TABLE rows (key TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID")
            if KEY_COLUMN in read_columns(path, ()):
                self._rows.execute("BEGIN")
                for part in list_parts(path):
                    self._rows.executemany(
                        "INSERT OR IGNORE INTO rows VALUES (?, ?)",
                        (
                            (str(row[KEY_COLUMN]), json.dumps(row))
                            for _, row in iter_rows(part, (KEY_COLUMN,))
                            if isinstance(row, dict) and KEY_COLUMN in row
                        ),
                    )
        except BaseException:
            self.close()
            raise

    def find(self, sample: bytes) -> tuple[tuple[Text, ...], dict[str, Any]] | None:
        """Return the texts and the other values of the row of a sample; None without a row.

        Args:
            sample: Name of the sample: that of its members without folder and suffix.
        """
        key = sample.rpartition(b"/")[2].decode("utf-8", "replace")
        with closing(self._rows.execute("SELECT row FROM rows WHERE key = ?", [key])) as found:
            row = found.fetchone()
        if row is None:
            return None
        values = json.loads(row[0])
        others = {
            name: to_metadata(v) for name, v in values.items() if name not in JSON_TEXT_FIELDS
        }
        return tuple(iter_json_texts(values)), others

    def close(self) -> None:
        """Delete the temporary file."""
        self._rows.close()
