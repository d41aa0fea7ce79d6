"""Derived texts: what enrichers made of the contents of an index, and the files that keep them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mmsearch.core.records import FileRef, StoredPicture
from mmsearch.core.types import Text, Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EnricherInput(StrEnum):
    """Kinds of input of enrichers."""

    VECTORS = "vectors"
    PIXELS = "pixels"
    SOUND = "sound"


@dataclass(frozen=True)
class EnricherOptions:
    """Options for building an enricher; without the functions they can be pickled.

    Attributes:
        model: Name of its model, or a folder; empty for the default.
        model_folder: Folder of its model, for those that have none of their own.
        device: Where the model runs: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        vocabulary: File of the tags to choose from, one a line; None for the built-in ones.
        cache: Folder of compiled models.
        language: Code of the language that is spoken, such as ``de``; None to detect it.
        threads: Maximum number of threads of an enricher that reads sound.
        encode_texts: Returns the query vectors of texts, (n, dim), in the space of the index.
        probabilities: Returns, for (n, dim) image vectors and (t, dim) text vectors, the
            probability that each picture shows what each text says, float64 (n, t).
    """

    model: str = ""
    model_folder: Path | None = None
    device: str = "auto"
    vocabulary: Path | None = None
    cache: Path | None = None
    language: str | None = None
    threads: int = 1
    encode_texts: Callable[[Sequence[str]], Vectors] | None = None
    probabilities: Callable[[Vectors, Vectors], NDArray[np.float64]] | None = None


class DerivedState(StrEnum):
    """State of an enricher with a content."""

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True)
class DerivedTexts:
    """The texts that an enricher made of one content, or the reason why it made none.

    Attributes:
        digest: sha256 of the content.
        enricher: Name of the enricher; its texts have it as their source.
        made_by: Fingerprint of the enricher: its model, its options and the version of its code.
        texts: Texts by part of the content; parts without a text are left out.
        state: ``partial`` if the content is long and only its beginning was read so far.
        from_ms: Where the texts begin in a film or a sound that is read in parts, in milliseconds.
        upto_ms: Where they end; None for what is read whole.
        seconds: CPU or waiting time that it took, in seconds.
        error: The reason of a failure, or why less than all of it was read, as a clause.
    """

    digest: bytes
    enricher: str
    made_by: str
    texts: Mapping[int, tuple[Text, ...]] = field(default_factory=dict, hash=False)
    state: DerivedState = DerivedState.DONE
    from_ms: int = 0
    upto_ms: int | None = None
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class SoundRequest:
    """Facts of a sound that are known before an enricher reads it.

    Attributes:
        language: Code of the language that is spoken; None if it is to be detected.
        subtitle_languages: Codes of the languages of its subtitles: speech in one of them has its
            text already.
    """

    language: str | None = None
    subtitle_languages: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SoundWindow:
    """The texts of a window of a sound.

    Attributes:
        texts: Texts with their times on the clock of the sound, in the order of these.
        next_ms: Where the rest begins, in milliseconds; None if nothing is left to read.
        language: Code of the language that is spoken; None if it is uncertain.
        note: Reason why the rest needs no texts, as a clause; None for a sound that is read.
    """

    texts: tuple[Text, ...] = ()
    next_ms: int | None = None
    language: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class PendingContent:
    """A content that an enricher has not finished.

    Attributes:
        id: Id of the content.
        items: Its items, in the order of their parts.
        upto_ms: End of what is known of it already, in milliseconds; 0 if it has not begun.
    """

    id: int
    items: tuple[StoredPicture, ...]
    upto_ms: int = 0


@dataclass(frozen=True)
class DerivedFile:
    """An immutable file of derived texts.

    Attributes:
        number: Increases with every file; never reused. Of the texts that an enricher made of a
            content, those in the last file count.
        file_ref: The file.
        rows: Number of contents in it.
    """

    number: int
    file_ref: FileRef
    rows: int


@dataclass(frozen=True)
class DerivedSummary:
    """Summary of the work of an enricher in an index.

    Attributes:
        enricher: Its name.
        made_by: Its fingerprint; empty if it is not known, because nothing was made yet and the
            enricher cannot work now.
        done: Number of contents that it has finished.
        failed: Number of contents that it cannot read.
        seconds: Processor time that it took for both, in seconds.
        left: Number of contents that it has not finished: of the sources that want its texts, or of
            all if none does. None of those that it finished with an earlier fingerprint are done.
        left_s: Estimate of the processor time for them, in seconds: from the time that it took for
            others, or, before any, from a first guess.
        is_wanted: True if a source wants its texts, with this fingerprint.
        error: Why it cannot work now; None if it can.
    """

    enricher: str
    made_by: str
    done: int
    failed: int
    seconds: float
    left: int = 0
    left_s: float = 0.0
    is_wanted: bool = False
    error: str | None = None


@dataclass(frozen=True)
class DerivedCounts:
    """Numbers of the contents that an enricher works on.

    Attributes:
        done: Number of contents that it has finished.
        failed: Number of contents that it cannot read.
        left: Number of contents that it has not finished.
    """

    done: int = 0
    failed: int = 0
    left: int = 0


@dataclass(frozen=True)
class FolderScope:
    """The assets of a source, or of a folder of it.

    Attributes:
        source_id: Id of the source.
        folder: The folder, relative to the source; b"" for all of it.
        without: Folders below it whose assets are left out.
    """

    source_id: int
    folder: bytes = b""
    without: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class ContentScope:
    """Condition on the assets of contents; by default, all contents fulfil it.

    Attributes:
        all_of: A content must have an asset in one of the folders of each of these groups.
        none_of: It must have no asset in any of these folders.
    """

    all_of: tuple[tuple[FolderScope, ...], ...] = ()
    none_of: tuple[FolderScope, ...] = ()


EVERYTHING = ContentScope()
"""The scope of all contents."""


class DerivedReader(Protocol):
    """Reading part of the derived texts of an index."""

    def files(self) -> list[DerivedFile]:
        """Return the files of derived texts, oldest first."""

    def next_number(self) -> int:
        """Return a number for the next file."""

    def list_texts(
        self, after_id: int, limit: int, *, only_live: bool = False
    ) -> tuple[list[DerivedTexts], int]:
        """Return what was made of contents with an id above one, and the last of their ids.

        Of ``limit`` contents at most, and only of searchable ones if asked for; nothing at the end.
        """

    def find_enrichers(self, digests: Collection[bytes]) -> dict[bytes, set[str]]:
        """Return the enrichers that have a result for each content, by digest.

        Contents that are not in the index are left out; those without a result have none.
        """

    def list_pending(
        self,
        enricher: str,
        made_by: str,
        kinds: Collection[str],
        after_id: int,
        limit: int,
        *,
        retry_failed: bool = False,
        scope: ContentScope = EVERYTHING,
        likely_text: bool = False,
    ) -> list[PendingContent]:
        """Return the searchable contents that an enricher has not finished, ordered by id.

        Args:
            enricher: Name of the enricher.
            made_by: Its fingerprint; what it made under another one is made again.
            kinds: Kinds of contents that it reads.
            after_id: Only contents with a higher id are returned.
            limit: Maximum number of contents.
            retry_failed: Return those that it could not read, too.
            scope: Only contents in it are returned.
            likely_text: Return only those that are likely to have text in them: documents, and by
                their names, formats and cameras, screenshots and scans.
        """

    def count(
        self,
        enricher: str,
        made_by: str | None,
        kinds: Collection[str],
        scope: ContentScope = EVERYTHING,
    ) -> DerivedCounts:
        """Return the numbers of searchable contents of some kinds by the state of an enricher.

        Args:
            enricher: Name of the enricher.
            made_by: Its fingerprint; None to count what it made under any.
            kinds: Kinds of contents that it reads.
            scope: Only contents in it are counted.
        """

    def count_contents(self, kinds: Collection[str]) -> int:
        """Return the number of searchable contents of some kinds."""

    def summarize(self) -> list[DerivedSummary]:
        """Return what each enricher has done, by name and fingerprint."""


class DerivedWriter(DerivedReader, Protocol):
    """Writing part, of which there is one at a time."""

    def commit(self, file: DerivedFile, contents: Sequence[DerivedTexts]) -> None:
        """Record a file and replace the texts of its contents, in one transaction.

        Contents that are no longer in the index are passed over.
        """

    def restore(self, file: DerivedFile | None, contents: Sequence[DerivedTexts]) -> int:
        """Record a file of a lost catalog; return the number of its contents in the index.

        Args:
            file: The file; None if it is recorded already.
            contents: What it says, or a part of that.
        """

    def replace_files(self, file: DerivedFile | None) -> None:
        """Record one file in place of all others; None if nothing is left to keep."""

    def remove(self, enricher: str, file: DerivedFile | None) -> int:
        """Remove all that an enricher has made; return the number of contents.

        Args:
            enricher: Name of the enricher.
            file: File with the texts of the others, in place of all files; None if nothing is left.
        """
