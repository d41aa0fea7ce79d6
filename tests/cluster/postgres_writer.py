"""A program that commits shards to a PostgreSQL catalog, as one of several writers.

    python -m tests.cluster.postgres_writer URL FOLDER WRITER SHARDS

Each shard has 20 new pictures. Every tenth picture has a content that all writers have, and each
picture is a file of the source of its writer. It prints the number of a shard once it is committed,
and repeats a commit that the server has not confirmed.
"""

import sys
import time
from pathlib import Path

from mmsearch.catalog.postgres import parse_url
from mmsearch.catalog.postgres_maintenance import open_postgres_writer
from mmsearch.core.errors import IndexLockedError, StorageError
from mmsearch.core.records import FileRef, IndexedFile, Segment, ShardCommit
from tests.unit.catalog.samples import digest_of, picture, seen

PER_SHARD = 20


def contents_of(writer, shard):
    """Return the contents of the pictures of a shard of a writer."""
    first = shard * PER_SHARD
    return [
        f"shared {number}" if number % 10 == 0 else f"{writer} {number}"
        for number in range(first, first + PER_SHARD)
    ]


def make_shard(catalog, root, writer, shard):
    item_id, number = catalog.reserve_ids(PER_SHARD, 1)
    contents = contents_of(writer, shard)
    pictures = [
        picture(item_id + place, content, ("caption", f"{content} by the sea"))
        for place, content in enumerate(contents)
    ]
    name = f"segments/{number:06d}-{digest_of(f'{writer} {shard}').hex()[:16]}.vectors"
    return ShardCommit(
        root_id=root.id,
        checked_ns=1,
        segment=Segment(number, FileRef(name, 1000, f"{number:064x}"), PER_SHARD, 8),
        pictures=pictures,
        indexed=[
            IndexedFile(seen(b"%d.jpg" % (shard * PER_SHARD + place)), digest_of(content))
            for place, content in enumerate(contents)
        ],
    )


def repeat(call):
    """Call a function until the server answers."""
    while True:
        try:
            return call()
        except (StorageError, IndexLockedError):
            time.sleep(0.1)


def main():
    url, folder, writer, shards = sys.argv[1:]
    place = parse_url(url, Path(folder) / "catalog.sqlite")
    catalog = repeat(lambda: open_postgres_writer(place, create=True))
    root, _ = repeat(lambda: catalog.ensure_root(f"/photos/{writer}".encode()))
    for shard in range(int(shards)):
        made = repeat(lambda shard=shard: make_shard(catalog, root, writer, shard))
        repeat(lambda made=made: catalog.commit_shard(made))
        sys.stdout.write(f"{shard}\n")
        sys.stdout.flush()
    catalog.close()


if __name__ == "__main__":
    main()
