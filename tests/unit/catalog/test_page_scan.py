"""Rows in the raw pages of a damaged database."""

import sqlite3
from contextlib import closing

from mmsearch.catalog.page_scan import scan_pages

PAGE_BYTES = 1024


def test_rows_whose_overflow_page_is_lost_are_left_out(tmp_path):
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("CREATE TABLE texts (text TEXT)")
        db.execute("INSERT INTO texts VALUES (?)", ["x" * 5000])
        db.execute("INSERT INTO texts VALUES ('short')")
    rows = [values for _, values in scan_pages(path)]
    assert [b"x" * 5000] in rows
    content = bytearray(path.read_bytes())
    # The first row ends with the number of its overflow page, at the end of the table's only page.
    content[2 * PAGE_BYTES - 4 : 2 * PAGE_BYTES] = bytes(4)
    path.write_bytes(content)
    rows = [values for _, values in scan_pages(path)]
    assert [b"x" * 5000] not in rows
    assert [b"short"] in rows
