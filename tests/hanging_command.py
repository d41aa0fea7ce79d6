"""The command with an operation that never ends.

``python -m tests.hanging_command OPERATION ARGUMENTS``: a query for "block" gets no answer. The
file $HANGING appears when the operation begins.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

from mmsearch.cli.main import run

ENDLESS_SQL = (
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"
)


def hang(*_, **__):
    """Begin the operation."""
    Path(os.environ["HANGING"]).touch()
    time.sleep(600)


def in_search():
    """Block the thread that owns the index."""
    from mmsearch.search.engine import SearchEngine

    answer = SearchEngine.answer

    def blocked(self, requests):
        if any(request.request.query.terms[0].text == "block" for request in requests):
            hang()
        return answer(self, requests)

    SearchEngine.answer = blocked


def in_sql():
    """Make a filter in SQLite endless."""
    from mmsearch.catalog.snapshot import SqlSnapshot

    def filter_ids(self, filters):
        return self._db.query(ENDLESS_SQL)

    SqlSnapshot.filter_ids = filter_ids


def in_encoder():
    """Block the encoding of a text."""
    from mmsearch.search.query_encoder import QueryEncoder

    vectors = QueryEncoder.vectors

    def blocked(self, terms, *arguments, **options):
        if any(term.text == "block" for term in terms):
            hang()
        return vectors(self, terms, *arguments, **options)

    QueryEncoder.vectors = blocked


def in_start():
    """Block the start, as a model that is being compiled does."""
    from mmsearch.search.query_encoder import QueryEncoder

    QueryEncoder.vectors = hang


def in_decoder():
    """Block the decoding of pictures for thumbnails, in a worker process."""
    from mmsearch.search import image_loader

    image_loader._ThumbnailTask = lambda *_: partial(time.sleep, 600)


def in_job():
    """Block indexing."""
    from mmsearch.api import Index

    Index.add_folder = hang


def in_nothing():
    """Block nothing."""


if __name__ == "__main__":
    os.environ["COLUMNS"] = "120"
    what, *sys.argv[1:] = sys.argv[1:]
    globals()[f"in_{what}"]()
    sys.exit(run(sys.argv[1:]))
