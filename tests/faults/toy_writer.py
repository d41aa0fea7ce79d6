"""A writer of toy pictures that reports acknowledged ones on stdout, for the crash replay.

``python -m tests.faults.toy_writer FOLDER``; a word in ``$MUTANT`` breaks the commit protocol on
purpose.
"""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

from mmsearch.catalog import sqlalchemy_engine
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.compaction import compact
from mmsearch.storage import arrays, atomic
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stores import local
from tests.toy_index import ToyEncoder, toy_indexer


def break_protocol(mutant):
    if mutant == "no-fsync":
        atomic.os = type("Os", (), {**vars(os), "fsync": staticmethod(lambda fd: None)})
    elif mutant == "synchronous-normal":
        connect = sqlalchemy_engine._connect_writable

        def careless(path, *, create):
            connection = connect(path, create=create)
            connection.execute("PRAGMA synchronous = NORMAL")
            return connection

        sqlalchemy_engine._connect_writable = careless
    elif mutant == "in-place":

        @contextmanager
        def careless_file(path, name=None):
            with path.open("wb+") as file:
                yield atomic.AtomicFile(path, file, name or f"{path.parent.name}/{path.name}")

        arrays.atomic_file = local.atomic_file = careless_file


def acknowledge(**facts):
    os.write(1, b"ACK " + json.dumps(facts).encode() + b"\n")


def write_toys(folder, names):
    for name in names:
        path = folder / f"{name}.toy"
        path.write_text(name)
        os.utime(path, ns=(10**9, 10**9))


def main(folder):
    break_protocol(os.environ.get("MUTANT", ""))
    photos, layout = folder / "photos", IndexLayout(folder / "index")
    photos.mkdir()

    def index(gone=()):
        acknowledge(going=[f"{name}.toy" for name in gone])
        with toy_indexer(layout, vector_index="faiss_flat") as indexer:
            commit = indexer.catalog.commit_shard

            def acknowledged(shard):
                removed = commit(shard)
                acknowledge(kept=[os.fsdecode(placed.file.path) for placed in shard.indexed])
                return removed

            indexer.catalog.commit_shard = acknowledged
            indexer.run(IndexRequest(os.fsencode(photos)))

    write_toys(photos, ["a", "b", "c"])
    index()
    write_toys(photos, ["d", "e"])
    (photos / "a.toy").unlink()
    index(gone=["a"])
    with catalogs.open_write(layout, 0, create=False) as catalog:
        identity = catalog.identity()
        builder = make_index_builder(layout, catalog, ToyEncoder)
        compact(layout, catalog, make_fusion(identity.fusion), builder)
    acknowledge(kept=[])
    write_toys(photos, ["f"])
    index()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
