"""One run over one folder: from the walk to the last commit of vectors."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, SourceError, StorageError
from mmsearch.core.files import sha256_of
from mmsearch.core.protocols import Executor, Walk
from mmsearch.core.records import FailedFile, FoundTexts, PlacedFile, SeenFile
from mmsearch.core.requests import IndexRequest, Progress, TaskFailure
from mmsearch.indexing.commit import Commits
from mmsearch.indexing.decode import DecodeTask
from mmsearch.indexing.diff import Fate, Settling, Verdict
from mmsearch.indexing.encode import Content, EncodedShard, Shard, ShardEncoder
from mmsearch.indexing.run_stats import Tally
from mmsearch.indexing.scan import Scan
from mmsearch.indexing.text_collector import FileTexts

UNREAD = b""
"""The digest of a file whose content could not be read: it is tried again in every run."""

HASH_CHUNK = 64


class FolderRun:
    """Settles the files of one folder.

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

    Attributes:
        tally: What is done so far.
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
        self._progress = progress
        self.tally = tally = Tally()
        self._root, self._below = catalog.ensure_root(request.folder)
        if texts.captions is not None:
            captioned = catalog.captioned_files(self._root.id, self._below, texts.captions.path)
            texts = replace(texts, captioned=captioned)
        self._texts = texts
        self._scan = Scan(request, catalog, self._root, self._below, texts, progress)
        self._next_id, self._next_segment = catalog.next_numbers()
        # Files of content that is being encoded, by digest; the first one is the one decoded.
        self._waiting: dict[bytes, list[tuple[PlacedFile, Fate]]] = {}
        self._bad: dict[bytes, str] = {}
        # Digests committed since the catalog was last asked which content it has.
        self._just_encoded: set[bytes] = set()
        self._commits = Commits(catalog, self._root.id, lambda: progress(tally.state("encode")))

    def carry_out(self) -> None:
        """Settle every file of the folder.

        Raises:
            SourceError: The folder had pictures and has none now.
        """
        comparison = self._scan.compare(self._walk)
        self.tally.unreadable_folders = tuple(self._walk.unreadable)
        gone = {p: file for p, file in comparison.missing.items() if self._is_gone(p)}
        unchanged = comparison.count(Verdict.UNCHANGED) + self._scan.pictures
        still_failed = comparison.count(Verdict.STILL_FAILED) + self._scan.failed
        retold = comparison.count(Verdict.RETOLD)
        seen = unchanged + still_failed + retold + comparison.count(Verdict.DOUBTFUL)
        self._refuse_sudden_emptiness(seen, len(gone))
        self.tally.fates[Fate.UNCHANGED] = unchanged
        self.tally.fates[Fate.STILL_FAILED] = still_failed
        self.tally.total = seen
        self._progress(self.tally.state("encode"))
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
        self.tally.gone = len(settling.gone)
        self._commits.dropped.extend(settling.gone)
        self._commits.commit()
        self.tally.captions_removed = self._commits.captions_removed

    def remember(self, *, changed: bool) -> None:
        """Let folders in which nothing is left to do pass whole in the next run.

        Args:
            changed: Whether anything else has changed files since the run began.
        """
        self._scan.remember(changed=changed or self._commits.any)

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
            if self._walk.unreadable:
                reason = self._walk.unreadable[0].reason
                raise StorageError(
                    f"{folder} could not be read: {reason}.",
                    "Nothing was changed. Look at the disk, and run again.",
                )
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
            self.tally.fates[Fate.UNCHANGED] += 1
            digest = self._scan.known[file.path].digest
            self._commits.placed.append(self._placed(file, digest, texts))
            self._commits.commit_if_due()

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
                    told = (*placed.texts, *(placed.table.texts if placed.table else ()))
                    contents.append(Content(placed.digest, source, told))
                if len(contents) >= self._commits.shard_size:
                    yield self._shard(contents)
                    contents = []
            self._commits.commit_if_due()
        if contents:
            yield self._shard(contents)

    def _read(self, file: SeenFile) -> tuple[bytes, FoundTexts]:
        return sha256_of(self._absolute(file.path)), self._find_texts(file)

    def _find_texts(self, file: SeenFile) -> FoundTexts:
        return self._texts.find(self._root.path, file)

    def _placed(self, file: SeenFile, digest: bytes, found: FoundTexts | TaskFailure) -> PlacedFile:
        if isinstance(found, TaskFailure):
            raise MMSearchError(f"Texts could not be read: {found.reason}.")
        self.tally.add_problems(found.problems)
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
            self._commits.dropped.append(former)
            placed = replace(placed, moved_from=former)
        if waiting is not None:
            waiting.append((placed, fate))
        elif fate is Fate.STILL_FAILED:
            self.tally.fates[fate] += 1
            error = settling.known[file.path].error or ""
            self._commits.failed.append((file, digest, error))
        elif has_vector:
            self.tally.fates[fate] += 1
            self._commits.placed.append(placed)
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
                    self.tally.fates[fate] += 1
                    self._commits.placed.append(placed)
                else:
                    digest = UNREAD if failure.transient else content.digest
                    self._fail(placed.file, digest, failure.reason)
        self._just_encoded.update(picture.digest for picture in encoded.pictures)
        self.tally.encoded += len(encoded.pictures)
        self.tally.underway = max(0, self.tally.underway - len(shard.contents))
        self._commits.commit_shard(encoded, len(shard.contents))

    def _fail(self, file: SeenFile, digest: bytes, reason: str) -> None:
        self.tally.failed.append(FailedFile(self._absolute(file.path), reason))
        self._commits.failed.append((file, digest, reason))

    def _on_encoded(self, count: int) -> None:
        self.tally.underway += count
        self._progress(self.tally.state("encode"))
