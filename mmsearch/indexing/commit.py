"""Batching of an indexing run's results into catalog commits."""

from __future__ import annotations

import time
from collections.abc import Callable

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.records import IndexedFile, ScannedFile, ShardCommit
from mmsearch.indexing.encode import EncodedShard

INITIAL_SHARD_SIZE, MIN_SHARD_SIZE, MAX_SHARD_SIZE = 32, 16, 512
COMMIT_INTERVAL_S = 4.0
"""Target time between two commits; the shard size is adapted to it."""


class CommitBatcher:
    """Collects the results of one run and commits them in the order of the files.

    Args:
        catalog: Catalog, open for writing.
        root_id: Id of the files' root.
        on_commit: Called after each commit.

    Attributes:
        indexed: Files whose content has a vector already, or gets one with the next shard.
        failed: Files that cannot be read, with their digests and the reasons.
        removed: Paths to remove from the catalog.
        shard_size: Number of contents that can be encoded between two commits.
        has_committed: True if there was a commit.
        captions_removed: Number of captions from tables that the commits removed.
    """

    def __init__(self, catalog: CatalogWriter, root_id: int, on_commit: Callable[[], None]) -> None:
        self._catalog = catalog
        self._root_id = root_id
        self._on_commit = on_commit
        self._committed_at = time.monotonic()
        self.indexed: list[IndexedFile] = []
        self.failed: list[tuple[ScannedFile, bytes, str]] = []
        self.removed: list[bytes] = []
        self.shard_size = INITIAL_SHARD_SIZE
        self.has_committed = False
        self.captions_removed = 0

    def commit_if_due(self) -> None:
        """Commit pending results if `COMMIT_INTERVAL_S` has passed since the last commit."""
        if time.monotonic() - self._committed_at > COMMIT_INTERVAL_S:
            self.commit()

    def commit(self) -> None:
        """Commit pending results, if there are any."""
        if self.indexed or self.failed or self.removed:
            self._commit(None)

    def commit_shard(self, encoded: EncodedShard, count: int) -> None:
        """Commit pending results together with a shard of ``count`` contents."""
        elapsed_s = time.monotonic() - self._committed_at
        self._commit(encoded)
        contents_per_s = count / max(elapsed_s, 1e-3)
        self.shard_size = int(
            min(max(contents_per_s * COMMIT_INTERVAL_S, MIN_SHARD_SIZE), MAX_SHARD_SIZE)
        )

    def _commit(self, encoded: EncodedShard | None) -> None:
        shard = ShardCommit(
            root_id=self._root_id,
            checked_ns=time.time_ns(),
            segment=encoded.segment if encoded else None,
            pictures=encoded.pictures if encoded else (),
            indexed=self.indexed,
            failed=self.failed,
            removed=self.removed,
        )
        self.indexed, self.failed, self.removed = [], [], []
        self.captions_removed += self._catalog.commit_shard(shard)
        self._committed_at = time.monotonic()
        self.has_committed = True
        self._on_commit()
