"""What is settled and not yet in the catalog, and when it gets there."""

from __future__ import annotations

import time
from collections.abc import Callable

from mmsearch.core.catalog import Catalog
from mmsearch.core.records import PlacedFile, SeenFile, ShardCommit
from mmsearch.indexing.encode import EncodedShard

FIRST_SHARD, SMALLEST_SHARD, LARGEST_SHARD = 32, 16, 512
COMMIT_EVERY_S = 4.0
"""A shard is sized so that a commit happens about this often."""


class Commits:
    """Commits one run, in the order in which files were met.

    Args:
        catalog: Open for writing.
        root_id: Of the files.
        on_commit: Called after each commit.

    Attributes:
        placed: Files whose content has a vector, or has one in the shard of the next commit.
        failed: Files that cannot be read, with their digests and the reasons.
        dropped: Paths that are forgotten.
        shard_size: Contents that take the time between two commits.
        any: Whether there was a commit.
        captions_removed: Captions that tables had given, and that commits removed.
    """

    def __init__(self, catalog: Catalog, root_id: int, on_commit: Callable[[], None]) -> None:
        self._catalog = catalog
        self._root_id = root_id
        self._on_commit = on_commit
        self._committed_at = time.monotonic()
        self.placed: list[PlacedFile] = []
        self.failed: list[tuple[SeenFile, bytes, str]] = []
        self.dropped: list[bytes] = []
        self.shard_size = FIRST_SHARD
        self.any = False
        self.captions_removed = 0

    def commit_if_due(self) -> None:
        """Commit what waits, if the last commit was long ago."""
        if time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Commit what waits, if anything does."""
        if self.placed or self.failed or self.dropped:
            self._commit(None)

    def commit_shard(self, encoded: EncodedShard, count: int) -> None:
        """Commit what waits together with a shard of so many contents."""
        elapsed = time.monotonic() - self._committed_at
        self._commit(encoded)
        per_second = count / max(elapsed, 1e-3)
        self.shard_size = int(min(max(per_second * COMMIT_EVERY_S, SMALLEST_SHARD), LARGEST_SHARD))

    def _commit(self, encoded: EncodedShard | None) -> None:
        shard = ShardCommit(
            root_id=self._root_id,
            checked_ns=time.time_ns(),
            segment=encoded.segment if encoded else None,
            pictures=encoded.pictures if encoded else (),
            placed=self.placed,
            failed=self.failed,
            dropped=self.dropped,
        )
        self.placed, self.failed, self.dropped = [], [], []
        self.captions_removed += self._catalog.commit_shard(shard)
        self._committed_at = time.monotonic()
        self.any = True
        self._on_commit()
