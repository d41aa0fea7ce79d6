"""What is said of a file outside the file itself: beside it, in its name, in a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmsearch.core.records import FoundTexts, SeenFile, TableTexts
from mmsearch.core.texts import searched_sources
from mmsearch.core.types import Text, TextSource

VERSION = 1
"""Of the code that finds texts: raised when it finds others, so that they are looked for again."""


@dataclass(frozen=True)
class CaptionTable:
    """A table of captions that was read.

    Attributes:
        path: Absolute, as bytes: the table's name. What another version of it said is replaced.
        captions: By path below the folder that is indexed.
    """

    path: bytes
    captions: Mapping[bytes, Sequence[Text]]


@dataclass(frozen=True)
class FileTexts:
    """Finds the texts of files, and tells when they must be looked for again.

    Attributes:
        sources: Where texts that get a vector come from.
        gather: Root folder and file -> what lies around the file.
        captions: The table of this run, if there is one.
        captioned: Paths, relative to their root, of files for which captions of that table are
            stored already.
    """

    sources: Sequence[TextSource]
    gather: Callable[[bytes, SeenFile], FoundTexts]
    captions: CaptionTable | None = None
    captioned: frozenset[bytes] = frozenset()
    _kept: frozenset[TextSource] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept", searched_sources(self.sources))

    @property
    def choice(self) -> bytes:
        """Changes when texts must be looked for again though no file has changed."""
        return repr((VERSION, sorted(self._kept))).encode()

    def find(self, root: bytes, file: SeenFile) -> FoundTexts:
        """The texts of one file but for the table's; safe to call from several threads."""
        if not self._kept:
            return FoundTexts()
        if TextSource.SIDECAR not in self._kept:
            file = replace(file, sidecars=())
        found = self.gather(root, file)
        return replace(found, texts=tuple(t for t in found.texts if t.source in self._kept))

    def table(self, file: SeenFile, below: bytes) -> TableTexts | None:
        """What the table says; None leaves what tables said before.

        Args:
            file: Its path is relative to its root.
            below: The folder that is indexed, relative to the root too.
        """
        if TextSource.TABLE not in self._kept:
            return TableTexts(None)
        if self.captions is None:
            return None
        captions = self.captions.captions.get(self._in_folder(file.path, below), ())
        return TableTexts(self.captions.path, captions)

    def key(self, file: SeenFile) -> bytes:
        """16 bytes that change when the texts around a file may have."""
        around = [[s.path.hex(), s.size, s.mtime_ns] for s in file.sidecars]
        facts = [VERSION, sorted(self._kept), file.path.hex(), around]
        return hashlib.sha256(json.dumps(facts).encode()).digest()[:16]

    def expected_key(self, file: SeenFile, below: bytes) -> bytes:
        """As `key`, but like no key of a file of which the table of this run speaks, or spoke."""
        if self.captions is None:
            return self.key(file)
        told = self._in_folder(file.path, below) in self.captions.captions
        return b"" if told or file.path in self.captioned else self.key(file)

    @staticmethod
    def _in_folder(path: bytes, below: bytes) -> bytes:
        return path[len(below) + 1 :] if below else path
