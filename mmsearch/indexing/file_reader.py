"""Worker that reads new files of a folder: their digests, and the texts around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, StorageError
from mmsearch.core.files import hash_source_file
from mmsearch.core.protocols import Executor
from mmsearch.core.records import CollectedTexts, ScannedFile
from mmsearch.core.results import TaskFailure
from mmsearch.indexing.encode import DecoderFactory, DecodeTask
from mmsearch.indexing.texts import TextCollector


class FileContent(NamedTuple):
    """Result of reading a file.

    Attributes:
        digest: The sha256 of its content.
        texts: Texts around it.
        max_items: Maximum number of its items; None if the worker does not count them.
    """

    digest: bytes
    texts: CollectedTexts
    max_items: int | None = None


@dataclass(frozen=True)
class FileReaders:
    """Workers on other hosts that read files.

    Attributes:
        executor: Runs the workers.
        make_decoder: Counts the items of contents.
        batch_size: Number of files of a task.
    """

    executor: Executor
    make_decoder: DecoderFactory
    batch_size: int = 256


@dataclass(frozen=True)
class FileReader:
    """Factory of a worker that reads files; it is pickled to reach other hosts.

    Attributes:
        root: Absolute path of the root.
        texts: Finds the texts of files.
        make_decoder: Counts the items of contents; None to count none.
    """

    root: bytes
    texts: TextCollector
    make_decoder: DecoderFactory | None = None

    @classmethod
    def remote(cls, root: bytes, texts: TextCollector, make_decoder: DecoderFactory) -> FileReader:
        """Return a factory of plain values, without the tables of captions."""
        lean = replace(texts, captions=None, kept_tables=(), captioned_paths=frozenset())
        return cls(root, lean, make_decoder)

    def __call__(self) -> Callable[[Sequence[ScannedFile]], list[FileContent | TaskFailure]]:
        """Return the worker.

        Raises:
            StorageError: This host does not see the folder.
        """
        if self.make_decoder is not None and not os.path.isdir(self.root):  # noqa: PTH112 - bytes
            raise StorageError(
                f"A worker does not see the folder {display_path(self.root)}.",
                "Mount it at the same path on all hosts of the cluster.",
            )
        return self._read

    def time_limit_s(self, files: Sequence[ScannedFile]) -> float:
        """Return the seconds that a worker may take for files: 10 and more at 1 MB/s for each."""
        return sum(10 + file.size / 1e6 for file in files) + 600

    def _read(self, files: Sequence[ScannedFile]) -> list[FileContent | TaskFailure]:
        return [self._read_file(file) for file in files]

    def _read_file(self, file: ScannedFile) -> FileContent | TaskFailure:
        path = os.path.join(self.root, file.path)  # noqa: PTH118 - bytes paths need os
        try:
            digest = hash_source_file(path)
            texts = self.texts.collect(self.root, file)
        except DecodeError as error:
            return TaskFailure(error.message, transient=bool(error.details.get("transient")))
        if self.make_decoder is None:
            return FileContent(digest, texts)
        task = DecodeTask(path, file.size, file.mtime_ns)
        return FileContent(digest, texts, self.make_decoder.max_items(task))
