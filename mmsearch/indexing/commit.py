"""Results of an indexing run: counted, and batched into catalog commits."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.records import FailedFile, IndexedFile, ScannedFile, ShardCommit
from mmsearch.core.reports import IndexReport, SkippedCount
from mmsearch.core.results import Progress
from mmsearch.indexing.diff import FileOutcome
from mmsearch.indexing.encode import DecodeTask, EncodedShard, EncodeTask, Shard

INITIAL_SHARD_SIZE, MIN_SHARD_SIZE, MAX_SHARD_SIZE = 32, 16, 65_536
MAX_SHARD_BYTES = 64_000_000
"""Maximum size of the contents of one shard that are in memory or have several items.

A few shards are in memory at a time, with the texts of all their items.
"""

COMMIT_INTERVAL_S = 4.0
"""Target time between two commits; the shard size is adapted to it."""

CLUSTER_COMMIT_INTERVAL_S = 10.0
"""The same on a cluster, where a shard costs messages, too."""

WORKER_SHARD_S = 120.0
"""Target maximum of the seconds that a worker of a cluster takes for a shard."""


class ShardSizer:
    """Size of the next shard: the number of contents that are encoded between two commits.

    Several shards are encoded at once, and may be committed one right after the other. So the speed
    is that of all shards committed in at least the last interval between commits, if the run is
    so old. Towards the end of a run on a cluster, shards get smaller: all workers have some.

    Args:
        cluster_workers: Number of workers of the cluster; 0 for threads of this process.

    Attributes:
        left: Maximum number of contents that are in no shard yet; None while unknown.
    """

    def __init__(self, cluster_workers: int = 0) -> None:
        self.left: int | None = None
        self._workers = cluster_workers
        self._interval_s = COMMIT_INTERVAL_S
        if cluster_workers:
            self._interval_s = min(CLUSTER_COMMIT_INTERVAL_S, WORKER_SHARD_S / cluster_workers)
        self._size = INITIAL_SHARD_SIZE
        self._has_committed = False
        # Times at which shards were committed, and their contents; the first is the start.
        self._commits: deque[tuple[float, int]] = deque()

    @property
    def size(self) -> int:
        """Number of contents of the next shard."""
        if self._workers < 2 or self.left is None:
            return self._size
        return max(min(self._size, self.left // (2 * self._workers)), MIN_SHARD_SIZE)

    def start_shard(self, count: int) -> None:
        """Note that a shard of ``count`` contents is about to be encoded."""
        if self.left is not None:
            self.left -= count
        if not self._commits:
            self._commits.append((time.monotonic(), 0))

    def skip_content(self) -> None:
        """Note a content that will be in no shard."""
        if self.left is not None:
            self.left -= 1

    def commit_shard(self, count: int) -> None:
        """Adapt the size to a shard of ``count`` contents that has been committed."""
        now = time.monotonic()
        if self._workers and not self._has_committed:
            # Until now, workers have loaded their models.
            self._commits = deque([(now, 0)])
            self._has_committed = True
            return
        self._commits.append((now, count))
        while now - self._commits[1][0] >= self._interval_s:
            self._commits.popleft()
        elapsed_s = now - self._commits[0][0]
        num_contents = sum(count for _, count in islice(self._commits, 1, None))
        # Workers of a cluster have often started together, and end so.
        contents_per_s = num_contents / max(elapsed_s, 1.0 if self._workers else 1e-3)
        self._size = int(
            min(max(contents_per_s * self._interval_s, MIN_SHARD_SIZE), MAX_SHARD_SIZE)
        )


class ShardMaker:
    """Makes the shards of one run, each with its segment number and the ids of its items.

    Args:
        catalog: Catalog, open for writing.
        sizer: Learns when a shard starts.
        before_encoding: Called before each shard is encoded.
        max_items: Maximum number of items of a content, for which ids are reserved.
    """

    def __init__(
        self,
        catalog: CatalogWriter,
        sizer: ShardSizer,
        before_encoding: Callable[[], None],
        max_items: Callable[[DecodeTask], int],
    ) -> None:
        self._catalog = catalog
        self._next_id, self._next_segment = catalog.next_free_ids()
        self._sizer = sizer
        self._before_encoding = before_encoding
        self._max_items = max_items

    def __call__(self, contents: Sequence[EncodeTask]) -> Shard:
        """Return the shard of new contents, which is to be encoded now."""
        self._before_encoding()
        self._sizer.start_shard(len(contents))
        num_ids = sum(self._max_items(content.source) for content in contents)
        if self._catalog.is_shared:
            self._next_id, self._next_segment = self._catalog.reserve_ids(num_ids, 1)
        shard = Shard(self._next_segment, self._next_id, tuple(contents), num_ids)
        self._next_segment += 1
        self._next_id += num_ids
        return shard


class CommitBatcher:
    """Collects the results of one run and commits them in the order of the files.

    Args:
        catalog: Catalog, open for writing.
        root_id: Id of the files' root.
        on_commit: Called after each commit.

    Attributes:
        indexed: Files whose content has a vector already, or gets one with the next shard.
        failed: Files that cannot be read, with their digests and the reasons.
        failed_parts: See `ShardCommit`.
        removed: Paths to remove from the catalog.
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
        self.failed_parts: dict[bytes, tuple[bytes, bytes]] = {}
        self.removed: list[bytes] = []
        self.has_committed = False
        self.captions_removed = 0

    @property
    def has_pending(self) -> bool:
        """True if there are results to commit."""
        return bool(self.indexed or self.failed or self.removed)

    def commit_if_due(self) -> None:
        """Commit pending results if `COMMIT_INTERVAL_S` has passed since the last commit."""
        if time.monotonic() - self._committed_at > COMMIT_INTERVAL_S:
            self.commit()

    def commit(self) -> None:
        """Commit pending results, if there are any."""
        if self.has_pending:
            self._commit(None)

    def close(self) -> None:
        """Forget the run that is called after commits, which would keep the model in memory."""
        self._on_commit = lambda: None

    def commit_shard(self, encoded: EncodedShard) -> None:
        """Commit pending results together with a shard."""
        self._commit(encoded)

    def _commit(self, encoded: EncodedShard | None) -> None:
        shard = ShardCommit(
            root_id=self._root_id,
            checked_ns=time.time_ns(),
            segment=encoded.segment if encoded else None,
            pictures=encoded.pictures if encoded else (),
            unused_ids=encoded.unused_ids if encoded else (),
            text_items=encoded.text_items if encoded else (),
            indexed=self.indexed,
            failed=self.failed,
            removed=self.removed,
            failed_parts=self.failed_parts,
        )
        self.indexed, self.failed, self.removed, self.failed_parts = [], [], [], {}
        self.captions_removed += self._catalog.commit_shard(shard)
        self._committed_at = time.monotonic()
        self.has_committed = True
        self._on_commit()


class RunStats:
    """Running counts of one indexing run.

    Attributes:
        outcomes: Number of files by outcome, without files that failed in this run.
        failed: Files that could not be read, in the order in which they failed.
        gone: Number of files that no longer exist.
        left_out: Number of files that the choices of the folder leave out now.
        encoded: Number of contents encoded and committed in this run.
        uncommitted: Number of contents encoded but not yet committed.
        total: Number of files to process; None until it is known.
        unreadable_folders: Folders that could not be listed.
        captions_removed: Number of captions that are no longer in their table.
        skipped: Files that are not read, by kind and reason.
        unnoticed: Number of changed files with the same size and modification time as before.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[FileOutcome] = Counter()
        self.failed: list[FailedFile] = []
        self.gone = 0
        self.left_out = 0
        self.captions_removed = 0
        self.skipped: tuple[SkippedCount, ...] = ()
        self.unnoticed = 0
        self.encoded = 0
        self.uncommitted = 0
        self.total: int | None = None
        self.unreadable_folders: tuple[FailedFile, ...] = ()
        self._unreadable_texts: dict[bytes, FailedFile] = {}
        self._started_at = time.monotonic()

    def add_unreadable_texts(self, problems: Sequence[FailedFile]) -> None:
        """Record text files that could not be read, each path once."""
        self._unreadable_texts.update((problem.path, problem) for problem in problems)

    def progress(self, phase: str) -> Progress:
        """Return the progress of the run in a given phase."""
        done = self.outcomes.total() + len(self.failed) + self.uncommitted
        return Progress(phase, done, self.total, self.encoded + self.uncommitted)

    def counts(self) -> Mapping[str, int]:
        """Return the counts of the report, for the catalog."""
        counts = {outcome.value: self.outcomes[outcome] for outcome in FileOutcome}
        return counts | {
            "gone": self.gone,
            "left_out": self.left_out,
            "failed": len(self.failed),
            "encoded": self.encoded,
            "captions_removed": self.captions_removed,
        }

    def report(self) -> IndexReport:
        """Return the report of the run."""
        return IndexReport(
            added=self.outcomes[FileOutcome.ADDED],
            changed=self.outcomes[FileOutcome.CHANGED],
            unchanged=self.outcomes[FileOutcome.UNCHANGED],
            moved=self.outcomes[FileOutcome.MOVED],
            copied=self.outcomes[FileOutcome.COPIED],
            gone=self.gone,
            left_out=self.left_out,
            failed=tuple(self.failed),
            still_failed=self.outcomes[FileOutcome.STILL_FAILED],
            unreadable_folders=self.unreadable_folders,
            unreadable_texts=tuple(
                problem for _, problem in sorted(self._unreadable_texts.items())
            ),
            seconds=time.monotonic() - self._started_at,
            encoded=self.encoded,
            captions_removed=self.captions_removed,
            skipped=self.skipped,
            unnoticed=self.unnoticed,
        )
