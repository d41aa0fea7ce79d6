"""The seam of the catalog: one generation held still, and what a writer may do."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.queries import Filters
from mmsearch.core.records import (
    BuiltVectorIndex,
    EncodedPicture,
    FailedFile,
    FileRecord,
    FolderRecord,
    Identity,
    PictureRecord,
    Root,
    RunRecord,
    SalvageResult,
    Segment,
    ShardCommit,
    StoredPicture,
)
from mmsearch.core.text_matches import MatchedText, TextMatches, TextTerm
from mmsearch.core.types import EncoderSpec, Ids


class Snapshot(Protocol):
    """One generation of a catalog, held still while it is open."""

    @property
    def generation(self) -> int: ...

    @property
    def identity(self) -> Identity | None: ...

    @property
    def pictures(self) -> int:
        """Pictures that can be found."""

    @property
    def built(self) -> BuiltVectorIndex | None: ...

    @property
    def unindexed_segments(self) -> Sequence[Segment]:
        """Segments that the built index does not hold."""

    @property
    def deleted_ids(self) -> Ids:
        """Pictures of which no file is left; ascending."""

    def records(self, ids: Sequence[int]) -> list[PictureRecord]:
        """Same order and length as ``ids``; KeyError for an id that never was."""

    def find_segments(self, ids: Sequence[int]) -> dict[int, Segment]:
        """For each of the pictures that can be found, the segment that holds its vectors."""

    def find_file(self, path: bytes) -> FileRecord | None:
        """What is known of a file by its absolute path; None: it is not in the index."""

    def filter_ids(self, filters: Filters) -> Ids:
        """The pictures that can be found and pass; ascending."""

    @property
    def has_texts(self) -> bool:
        """Whether any text can be searched for words, file names aside."""

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Bool (n,): which pictures have a text that can be searched, file names aside."""

    def match(self, terms: Sequence[TextTerm], limit: int, allowed: Ids | None) -> TextMatches:
        """The pictures whose texts hold most of the words, ``limit`` at most.

        Args:
            terms: Of a query.
            limit: How many at most.
            filter_ids: Only these; None: all that can be found.
        """

    def matched_texts(
        self, ids: Sequence[int], terms: Sequence[TextTerm]
    ) -> list[MatchedText | None]:
        """For each picture, the text that holds most of the words; None if no text holds any."""


class Reader(Protocol):
    """As much of a catalog as a query needs."""

    def identity(self) -> Identity | None:
        """What the index is bound to; None before its first run."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open the newest generation for reading."""

    def close(self) -> None: ...


class Catalog(Reader, Protocol):
    """Who is picture 42? One writer, many readers. Every write is one transaction."""

    def set_identity(self, identity: Identity) -> None:
        """Set the identity of an index that has none, or replace the part that may change."""

    def roots(self) -> list[Root]: ...

    def ensure_root(self, path: bytes) -> tuple[Root, bytes]:
        """The root that covers ``path`` and the rest of the path below it (b"" for the root).

        A new root takes over the files of roots that lie inside it.
        """

    def move_root(self, name: str, path: bytes) -> Root:
        """Point a root at another folder. UnknownNameError if there is none of that name."""

    def list_files_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, FileRecord]:
        """The files of a root whose relative path is ``below`` or lies beneath it.

        Without those that lie in the folders ``passed`` themselves.
        """

    def list_files_in(self, root_id: int, folder: bytes) -> dict[bytes, FileRecord]:
        """The files of a root that lie in a folder itself, not beneath it."""

    def count_files_under(self, root_id: int, subpath: bytes) -> int:
        """How many files `list_files_under` finds."""

    def load_folder_states(self, root_id: int, subpath: bytes) -> dict[bytes, FolderRecord]:
        """The folders at ``below`` or beneath it in which a run found nothing left to do."""

    def save_folder_states(
        self, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
    ) -> None:
        """Put folders, by path, in the place of all `load_folder_states`.

        They are forgotten as soon as any file of the root changes.
        """

    def find_image_ids(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """The ids of contents that have a vector, alive or not."""

    def next_free_ids(self) -> tuple[int, int]:
        """The first free picture id and the first free segment number."""

    def list_captioned_files(self, root_id: int, subpath: bytes, table: bytes) -> frozenset[bytes]:
        """Return the paths of `list_files_under` for which captions of a table are stored.

        Args:
            root_id: The root of the paths.
            subpath: A folder relative to the root.
            table: Absolute path of the table.
        """

    def commit_shard(self, shard: ShardCommit) -> int:
        """One transaction, one new generation; committing the same shard twice changes nothing.

        Returns:
            How many captions that tables had given to files were removed.
        """

    def list_live_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found, whose id is higher than ``after``, by id."""

    def stale_texts(self, limit: int) -> list[StoredPicture]:
        """Those whose vectors are of other texts than they have, by id."""

    def superseded_ids(self) -> Ids:
        """Former ids of pictures, which will never be found again; ascending."""

    def segments(self) -> list[Segment]: ...

    def publish(self, built: BuiltVectorIndex, identity: Identity | None = None) -> int:
        """Make a built index the one that readers use; returns the generation.

        With an identity, in the same transaction, also that: vectors fused otherwise.
        """

    def failures(self) -> list[FailedFile]: ...

    def begin_run(self) -> int:
        """Note that a run began; returns its id."""

    def finish_run(self, run_id: int, outcome: str, counts: Mapping[str, int]) -> None: ...

    def last_run(self) -> RunRecord | None: ...

    def file_count(self) -> int:
        """Paths of pictures that can be found."""

    def stage_segment(
        self, segment: Segment, encoder: EncoderSpec, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Note a segment that readers do not see yet, and whose vectors it holds."""

    def staged_encoder(self) -> str | None:
        """The fingerprint of the encoder of what is staged; None if nothing is."""

    def list_staged_segments(self) -> list[Segment]:
        """What is staged, oldest first."""

    def discard_staged(self) -> None:
        """Forget what is staged."""

    def list_unstaged_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Pictures that can be found and are in no staged segment, by id."""

    def activate_staged(
        self, built: BuiltVectorIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Put the staged segments in the place of all others, in one transaction.

        Pictures in none of them are forgotten; the files of unreadable ones count as failed.
        """

    def segment_image_ids(self, segment_number: int) -> Ids:
        """The pictures whose vectors stand in a segment; ascending."""

    def list_segment_pictures(self, segment_number: int) -> list[StoredPicture]:
        """The pictures of a segment that can be found, by id."""

    def restore_segment(self, segment: Segment, pictures: Sequence[EncodedPicture]) -> None:
        """Take up a segment of a lost catalog again."""

    def drop_segment(self, segment_number: int) -> None:
        """Drop a segment and its pictures, whose files count as failed from then on."""

    def drop_built_index(self) -> None:
        """A generation without a built index."""

    def find_problems(self) -> Iterator[str]:
        """Yield what is proved to be wrong with the catalog, a sentence each; nothing is written.

        Raises:
            MMSearchError: Something could not be read, which proves nothing.
        """

    def recover_rows(self, damaged: Path, recorded_roots: Sequence[bytes]) -> SalvageResult:
        """Take over every row of a damaged catalog that can be read: roots, files, texts, runs.

        Segments and their pictures must have been restored before.

        Raises:
            InspectionError: It cannot be read for another reason than damage.
        """

    def reattach_texts(self) -> None:
        """Give texts of tables whose files were lost to a file of the same picture."""

    def load_unfinished_roots(self) -> list[int]:
        """Return the ids of the roots whose folders a repair has yet to look through."""

    def save_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Write down the roots whose folders a repair has yet to look through."""

    def rebuild_derived(self) -> None:
        """Make what is derived within the catalog again."""

    def vacuum(self) -> None:
        """Give the room of deleted rows back."""

    def copy_to(self, path: Path) -> None:
        """Write one state of the catalog to another file, also while a writer works."""

    def referenced_files(self) -> set[str]:
        """Names of the files of the index that some row points at."""
