"""Decoding and encoding of stored pictures again, for vectors that were not stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mmsearch.core.catalog import Catalog
from mmsearch.core.records import FailedFile, ShardCommit, StoredPicture
from mmsearch.indexing.encode import Shard, ShardEncoder, reencode_task


def reencode(
    catalog: Catalog, encode: ShardEncoder, pages: Iterable[Sequence[StoredPicture]]
) -> list[FailedFile]:
    """Re-encode pictures; each page is committed and replaces their previous vectors.

    Args:
        catalog: Catalog, open for writing.
        encode: Shard worker.
        pages: Pages of a few hundred pictures. A page is requested after the previous one is
            committed.

    Returns:
        Files that could not be read; their pictures keep their current vectors.
    """
    failed = []
    for page in pages:
        first_id, number = catalog.next_free_ids()
        contents = tuple(replace(reencode_task(item), replaces=item.id) for item in page)
        encoded = encode(Shard(number, first_id, contents))
        paths = {item.digest: item.path for item in page}
        failed += [
            FailedFile(paths[digest], failure.reason) for digest, failure in encoded.failed.items()
        ]
        root = catalog.roots()[0]
        catalog.commit_shard(ShardCommit(root.id, 0, encoded.segment, encoded.pictures))
    return failed
