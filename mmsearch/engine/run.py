"""One run over one folder: from the walk to the last commit of vectors."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, SourceError
from mmsearch.core.files import sha256_of
from mmsearch.core.protocols import Executor, Walk
from mmsearch.core.records import FailedFile, FoundTexts, PlacedFile, SeenFile, ShardCommit
from mmsearch.core.requests import IndexReport, IndexRequest, Progress, TaskFailure
from mmsearch.engine.decode import DecodeTask
from mmsearch.engine.encode_shard import Content, EncodedShard, Shard, ShardEncoder
from mmsearch.engine.file_texts import FileTexts
from mmsearch.engine.plan import Fate, Settling, Verdict
from mmsearch.engine.scan import Scan

UNREAD = b""
"""The digest of a file whose content could not be read: it is tried again in every run."""

HASH_CHUNK = 64
FIRST_SHARD, SMALLEST_SHARD, LARGEST_SHARD = 32, 16, 512
COMMIT_EVERY_S = 4.0
"""A shard is sized so that a commit happens about this often."""


class FolderRun:
    """The state of one run. Commits come in the order in which files were met.

    Args:
        request: What to index.
        catalog: Open for writing.
        walk: Lists the files of a request.
        hashing: Runs the readers that compute digests.
        shards: Runs shard workers.
        make_shard_encoder: Given a callback for the number of pictures done, makes the worker.
        texts: Finds the texts of files.
        progress: Receives the state of the run, from several threads.
        before_encoding: Called before each shard; the first time nothing else uses the encoder.
    """

    def __init__(
        self,
        request: IndexRequest,
        catalog: Catalog,
        *,
        walk: Callable[[IndexRequest], Walk],
        hashing: Executor,
        shards: Executor,
        make_shard_encoder: Callable[[Callable[[int], None]], ShardEncoder],
        texts: FileTexts,
        progress: Callable[[Progress], None],
        before_encoding: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_encoding = before_encoding
        self._request = request
        self._catalog = catalog
        self._walk = walk(request)
        self._hashing = hashing
        self._shards = shards
        self._make_shard_encoder = make_shard_encoder
        self._texts = texts
        self._progress = progress
        self._began = time.monotonic()
        self._root, self._below = catalog.ensure_root(request.folder)
        self._scan = Scan(request, catalog, self._root, self._below, texts, progress)
        self._next_id, self._next_segment = catalog.next_numbers()
        self._fates: Counter[Fate] = Counter()
        self._failed_files: list[FailedFile] = []
        self._problems: dict[bytes, FailedFile] = {}
        self._gone = 0
        self._encoded = 0
        self._underway = 0
        self._total: int | None = None
        # Files of content that is being encoded, by digest; the first one is the one decoded.
        self._waiting: dict[bytes, list[tuple[PlacedFile, Fate]]] = {}
        self._bad: dict[bytes, str] = {}
        # Digests committed since the catalog was last asked which content it has.
        self._just_encoded: set[bytes] = set()
        self._pending = _Pending()
        self._shard_size = FIRST_SHARD
        self._committed_at = time.monotonic()
        self._has_committed = False

    def carry_out(self) -> None:
        """Settle every file of the folder.

        Raises:
            SourceError: The folder had pictures and has none now.
        """
        comparison = self._scan.compare(self._walk)
        gone = {p: file for p, file in comparison.missing.items() if self._is_gone(p)}
        unchanged = comparison.count(Verdict.UNCHANGED) + self._scan.pictures
        still_failed = comparison.count(Verdict.STILL_FAILED) + self._scan.failed
        retold = comparison.count(Verdict.RETOLD)
        seen = unchanged + still_failed + retold + comparison.count(Verdict.DOUBTFUL)
        self._refuse_sudden_emptiness(seen, len(gone))
        self._fates[Fate.UNCHANGED] = unchanged
        self._fates[Fate.STILL_FAILED] = still_failed
        self._total = seen
        self._progress(self.state("encode"))
        settling = Settling(self._scan.known, gone, self._request.retry_failed)
        if retold:
            self._place_again(self._scan.those(Verdict.RETOLD))
        stream = self._shards.run(
            lambda: self._make_shard_encoder(self._on_encoded),
            self._new_shards(self._scan.those(Verdict.DOUBTFUL), settling),
        )
        for shard, outcome in stream:
            if isinstance(outcome, TaskFailure):
                raise MMSearchError(f"A shard could not be encoded: {outcome.reason}.")
            self._settle_shard(shard, outcome)
        self._gone = len(settling.gone)
        self._pending.dropped.extend(settling.gone)
        self._commit()

    def state(self, phase: str) -> Progress:
        """How far the run has come."""
        return Progress(phase, self._done(), self._total, self._encoded + self._underway)

    def counts(self) -> Mapping[str, int]:
        """The report's numbers, for the catalog."""
        counts = {fate.value: self._fates[fate] for fate in Fate}
        return counts | {
            "gone": self._gone,
            "failed": len(self._failed_files),
            "encoded": self._encoded,
        }

    def report(self) -> IndexReport:
        """What was done."""
        return IndexReport(
            added=self._fates[Fate.ADDED],
            changed=self._fates[Fate.CHANGED],
            unchanged=self._fates[Fate.UNCHANGED],
            moved=self._fates[Fate.MOVED],
            copied=self._fates[Fate.COPIED],
            gone=self._gone,
            failed=tuple(self._failed_files),
            still_failed=self._fates[Fate.STILL_FAILED],
            unreadable_folders=tuple(self._walk.unreadable),
            unreadable_texts=tuple(problem for _, problem in sorted(self._problems.items())),
            seconds=time.monotonic() - self._began,
            encoded=self._encoded,
        )

    def remember(self, *, changed: bool) -> None:
        """Let folders in which nothing is left to do pass whole in the next run.

        Args:
            changed: Whether anything else has changed files since the run began.
        """
        self._scan.remember(changed=changed or self._has_committed)

    # --- what there is ---

    def _is_gone(self, path: bytes) -> bool:
        """Only what surely does not exist is gone; an unreadable folder merely hides files."""
        try:
            return not stat.S_ISREG(os.stat(self._absolute(path)).st_mode)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def _refuse_sudden_emptiness(self, seen: int, gone: int) -> None:
        if seen == 0 and gone and not self._request.allow_empty:
            folder = display_path(self._request.folder)
            raise SourceError(
                f"{folder} holds no pictures now, but {gone:,} are indexed below it.",
                "Nothing was changed. If a drive is not mounted, mount it; if the pictures were "
                "deleted, pass --allow-empty.",
            )

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._root.path, path)  # noqa: PTH118 - bytes paths need os

    # --- what to do with it ---

    def _place_again(self, retold: Iterator[SeenFile]) -> None:
        """Read the texts of files again that are themselves the same."""
        for file, texts in self._hashing.run(lambda: self._find_texts, retold):
            self._fates[Fate.UNCHANGED] += 1
            digest = self._scan.known[file.path].digest
            self._pending.placed.append(self._placed(file, digest, texts))
            self._commit_if_due()

    def _new_shards(self, doubtful: Iterator[SeenFile], settling: Settling) -> Iterator[Shard]:
        """Settle known content on the way; yield what must be encoded."""
        read = self._hashing.run(lambda: self._read, doubtful)
        contents: list[Content] = []
        while chunk := list(islice(read, HASH_CHUNK)):
            digests = [found[0] for _, found in chunk if not isinstance(found, TaskFailure)]
            self._just_encoded.clear()
            encoded = self._catalog.images_of(digests)
            for file, found in chunk:
                if isinstance(found, TaskFailure):
                    self._fail(file, UNREAD, found.reason)
                    continue
                placed = self._placed(file, *found)
                has_vector = placed.digest in encoded or placed.digest in self._just_encoded
                if self._settle_known(placed, settling, has_vector=has_vector):
                    source = DecodeTask(self._absolute(file.path), file.size, file.mtime_ns)
                    told = (*placed.texts, *(placed.table or ()))
                    contents.append(Content(placed.digest, source, told))
                if len(contents) >= self._shard_size:
                    yield self._shard(contents)
                    contents = []
            self._commit_if_due()
        if contents:
            yield self._shard(contents)

    def _read(self, file: SeenFile) -> tuple[bytes, FoundTexts]:
        return sha256_of(self._absolute(file.path)), self._find_texts(file)

    def _find_texts(self, file: SeenFile) -> FoundTexts:
        return self._texts.find(self._root.path, file)

    def _placed(self, file: SeenFile, digest: bytes, found: FoundTexts | TaskFailure) -> PlacedFile:
        if isinstance(found, TaskFailure):
            raise MMSearchError(f"Texts could not be read: {found.reason}.")
        self._problems.update((problem.path, problem) for problem in found.problems)
        return PlacedFile(
            file,
            digest,
            found.texts,
            self._texts.key(file),
            self._texts.table(file, self._below),
        )

    def _settle_known(self, placed: PlacedFile, settling: Settling, *, has_vector: bool) -> bool:
        """Deal with a file whose content needs no decoding; True if it does need it."""
        file, digest = placed.file, placed.digest
        waiting = self._waiting.get(digest)
        fate = settling.fate(file, digest, has_vector=has_vector or waiting is not None)
        if fate is Fate.MOVED:
            former = settling.take_moved(digest)
            self._pending.dropped.append(former)
            placed = replace(placed, moved_from=former)
        if waiting is not None:
            waiting.append((placed, fate))
        elif fate is Fate.STILL_FAILED:
            self._fates[fate] += 1
            error = settling.known[file.path].error or ""
            self._pending.failed.append((file, digest, error))
        elif has_vector:
            self._fates[fate] += 1
            self._pending.placed.append(placed)
        elif digest in self._bad:
            self._fail(file, digest, self._bad[digest])
        else:
            self._waiting[digest] = [(placed, fate)]
            return True
        return False

    def _shard(self, contents: list[Content]) -> Shard:
        self._before_encoding()
        shard = Shard(self._next_segment, self._next_id, tuple(contents))
        self._next_segment += 1
        self._next_id += len(contents)
        return shard

    def _settle_shard(self, shard: Shard, encoded: EncodedShard) -> None:
        for content in shard.contents:
            files = self._waiting.pop(content.digest)
            failure = encoded.failed.get(content.digest)
            if failure is not None and not failure.transient:
                self._bad[content.digest] = failure.reason
            for placed, fate in files:
                if failure is None:
                    self._fates[fate] += 1
                    self._pending.placed.append(placed)
                else:
                    digest = UNREAD if failure.transient else content.digest
                    self._fail(placed.file, digest, failure.reason)
        self._just_encoded.update(picture.digest for picture in encoded.pictures)
        self._encoded += len(encoded.pictures)
        self._underway = max(0, self._underway - len(shard.contents))
        elapsed = time.monotonic() - self._committed_at
        self._commit(encoded)
        per_second = len(shard.contents) / max(elapsed, 1e-3)
        self._shard_size = int(min(max(per_second * COMMIT_EVERY_S, SMALLEST_SHARD), LARGEST_SHARD))

    def _fail(self, file: SeenFile, digest: bytes, reason: str) -> None:
        self._failed_files.append(FailedFile(self._absolute(file.path), reason))
        self._pending.failed.append((file, digest, reason))

    # --- making it count ---

    def _commit_if_due(self) -> None:
        due = time.monotonic() - self._committed_at > COMMIT_EVERY_S
        if due and self._pending:
            self._commit()

    def _commit(self, encoded: EncodedShard | None = None) -> None:
        pending, self._pending = self._pending, _Pending()
        if encoded is None and not pending:
            return
        self._catalog.commit_shard(
            ShardCommit(
                root_id=self._root.id,
                checked_ns=time.time_ns(),
                segment=encoded.segment if encoded else None,
                pictures=encoded.pictures if encoded else (),
                placed=pending.placed,
                failed=pending.failed,
                dropped=pending.dropped,
            )
        )
        self._committed_at = time.monotonic()
        self._has_committed = True
        self._progress(self.state("encode"))

    def _on_encoded(self, count: int) -> None:
        self._underway += count
        self._progress(self.state("encode"))

    def _done(self) -> int:
        return sum(self._fates.values()) + len(self._failed_files) + self._underway


class _Pending:
    """What the next commit carries besides a segment."""

    def __init__(self) -> None:
        self.placed: list[PlacedFile] = []
        self.failed: list[tuple[SeenFile, bytes, str]] = []
        self.dropped: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self.placed or self.failed or self.dropped)
