"""Pictures that have vectors are decoded and encoded once more, for what was not kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmsearch.core.catalog import Catalog
from mmsearch.core.records import FailedFile, ShardCommit, StoredPicture
from mmsearch.core.types import TextSource
from mmsearch.engine.decode import DecodeTask
from mmsearch.engine.encode_shard import Content, Shard, ShardEncoder

AT_ONCE = 256


def reencode(
    catalog: Catalog, encode: ShardEncoder, pages: Iterable[Sequence[StoredPicture]]
) -> list[FailedFile]:
    """Encode pictures again; each page is committed and takes the place of the former vectors.

    Args:
        catalog: Open for writing.
        encode: The worker.
        pages: Pictures, some hundred at a time; a page is drawn when the last one is committed.

    Returns:
        Files that could not be read; their pictures keep the vectors that they have.
    """
    failed = []
    for page in pages:
        first_id, number = catalog.next_numbers()
        contents = tuple(_content(item) for item in page)
        encoded = encode(Shard(number, first_id, contents))
        paths = {item.digest: item.path for item in page}
        failed += [
            FailedFile(paths[digest], failure.reason) for digest, failure in encoded.failed.items()
        ]
        root = catalog.roots()[0]
        catalog.commit_shard(ShardCommit(root.id, 0, encoded.segment, encoded.pictures))
    return failed


def _content(item: StoredPicture) -> Content:
    """What the picture itself says is read again; what stands around it is as it was."""
    around = tuple(text for text in item.picture.texts if text.source != TextSource.METADATA)
    source = DecodeTask(item.path, item.size, item.mtime_ns)
    return Content(item.digest, source, around, replaces=item.id)
