"""The command, with something in it that does not end.

``python -m tests.hanging_command WHAT mmsearch's arguments``: a query for "block" never gets its answer.
"""

import os
import sys
import time
from functools import partial

from mmsearch.cli.main import run

ENDLESS_SQL = (
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"
)


def in_search():
    """The thread that owns the index sleeps."""
    from mmsearch.search.engine import SearchEngine

    answer = SearchEngine.answer

    def blocked(self, requests):
        if any(request.request.query.terms[0].text == "block" for request in requests):
            time.sleep(600)
        return answer(self, requests)

    SearchEngine.answer = blocked


def in_sql():
    """A filter of SQLite has no end."""
    from mmsearch.catalog.snapshot import SqliteSnapshot

    def filter_ids(self, filters):
        return self._db.query(ENDLESS_SQL)

    SqliteSnapshot.filter_ids = filter_ids


def in_encoder():
    """A text is never encoded."""
    from mmsearch.search.query_encoder import QueryEncoder

    vectors = QueryEncoder.vectors

    def blocked(self, terms, *arguments, **options):
        if any(term.text == "block" for term in terms):
            time.sleep(600)
        return vectors(self, terms, *arguments, **options)

    QueryEncoder.vectors = blocked


def in_start():
    """What is loaded before the first answer, as a model that is compiled."""
    from mmsearch.search.query_encoder import QueryEncoder

    QueryEncoder.vectors = lambda *_, **__: time.sleep(600)


def in_decoder():
    """No picture is ever decoded for a thumbnail, in a worker process."""
    from mmsearch.search import image_loader

    image_loader._ThumbnailTask = lambda *_: partial(time.sleep, 600)


def in_job():
    """Indexing has no end."""
    from mmsearch.api import Index

    Index.add_folder = lambda *_, **__: time.sleep(600)


def in_nothing():
    """All is as it is."""


if __name__ == "__main__":
    os.environ["COLUMNS"] = "120"
    what, *sys.argv[1:] = sys.argv[1:]
    globals()[f"in_{what}"]()
    sys.exit(run(sys.argv[1:]))
