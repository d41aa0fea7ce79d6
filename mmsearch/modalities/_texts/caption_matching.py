r"""Match the paths of a caption table with the pictures of a folder.

Tables come from other machines and programs, so a path is read as follows; the first reading that
fits counts:

1. As it is written: absolute, or relative to the table's folder or to the indexed folder.
2. At the same place, but without padding and quotation marks, as a ``file:`` URL, with backslashes,
   with percent signs decoded, in another Unicode form, in another letter case, or without the
   file's suffix.
3. As the picture that has the most last parts of its path in common: a bare name anywhere below the
   folder, or ``D:\Fotos\2019\a.jpg`` for 2019/a.jpg.

Nothing is guessed: a path that fits several pictures equally well matches none, and different paths
that fit one picture equally well do not match it.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import Final, NamedTuple
from urllib.parse import unquote

from mmsearch.core.reports import MAX_EXAMPLES, CaptionsReport, RowSample
from mmsearch.core.types import Text

_MAX_CANDIDATES: Final = 8
"""Number of pictures with equal ends of their paths that are compared by their spelling."""

_MAX_PARTS: Final = 32
_URL: Final = re.compile(r"(?i)([a-z][a-z0-9+.-]+)://[^/\\]*")
_DRIVE: Final = re.compile(r"(?i)(?://[?.])?/?[a-z]:")
_PERCENT: Final = re.compile("%[0-9A-Fa-f]{2}")
# Quotation marks, and the invisible signs that Windows copies with a path.
_PADDING: Final = " \t\r\n\xa0\"'\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2069"

Parts = tuple[str, ...]


@dataclass(slots=True)
class NamedRows:
    """The rows of a table that have the same path.

    Attributes:
        rows: Number of rows.
        rows_without_text: Number of these rows without a text.
        texts: Texts of all rows.
        found: Relative path of the picture; None if no picture fits.
    """

    rows: int = 0
    rows_without_text: int = 0
    texts: tuple[Text, ...] = ()
    found: bytes | None = None


class _Reading(NamedTuple):
    """A reading of a path that no picture has as it is written.

    Attributes:
        parts: Its components, without those that only refer to other folders.
        folded: The components as `_fold` returns them.
        ups: Number of ``..`` at its start.
        is_absolute: True if it begins with a drive, a server or the root folder.
    """

    parts: Parts
    folded: Parts
    ups: int
    is_absolute: bool


class _Match(NamedTuple):
    """Picture that fits a reading.

    Attributes:
        rank: How well it fits: at the place of the path, number of common last parts, has the
            suffix, same spelling.
        reading: The reading.
        pictures: Relative paths of all pictures that fit equally well.
    """

    rank: tuple[bool, int, bool, int]
    reading: _Reading
    pictures: Sequence[bytes]

    @property
    def is_at_place(self) -> bool:
        """True if the picture is where the path says."""
        return self.rank[0]

    @property
    def depth(self) -> int:
        """Number of common last parts."""
        return self.rank[1]

    @property
    def start(self) -> Parts:
        """First components of the path, folded, which the picture's path does not have."""
        return self.reading.folded[: len(self.reading.folded) - self.depth]


class CaptionTable:
    """The captions of a table, which are matched with the files of a run.

    Args:
        path: Absolute path of the table.
        folder: Absolute path of the indexed folder.

    Attributes:
        path: Absolute path of the table, which identifies it.
        encoding: Encoding of a text file, for people; None for Parquet.
        captions: Texts by path relative to the folder; empty before `match`.
        report: Number of rows by outcome; None before `match`.
    """

    def __init__(self, path: bytes, folder: bytes) -> None:
        self.path = path
        self.encoding: str | None = None
        self.captions: Mapping[bytes, Sequence[Text]] = {}
        self.report: CaptionsReport | None = None
        path, folder = _with_slashes(path), _with_slashes(folder)
        # Links in one of the two paths must not hide that a picture is inside the folder.
        self._folders = list(dict.fromkeys((folder, _real_path(folder))))
        self._prefixes = [folder.rstrip(b"/") + b"/" for folder in self._folders]
        table_folder = os.path.dirname(path)  # noqa: PTH120 - bytes
        self._bases = list(dict.fromkeys((table_folder, _real_path(table_folder), folder)))
        self._rows_by_path: dict[str, NamedRows] = {}
        self._num_rows = 0
        self._unmatched, self._ambiguous = _Sample(), _Sample()
        self._left_out, self._by_end = _Sample(), _Sample()

    def add_row(self, number: int, picture: str, texts: Sequence[Text]) -> None:
        """Add a row.

        Args:
            number: Number of the row or line.
            picture: Path of its picture as it is written; empty if the row has none.
            texts: Its texts.
        """
        self._num_rows += 1
        if not picture:
            self._unmatched.add(1, f"(row {number} has no path)")
            return
        rows = self._rows_by_path.get(picture)
        if rows is None:
            rows = self._rows_by_path[picture] = NamedRows()
        rows.rows += 1
        rows.rows_without_text += not texts
        rows.texts += tuple(texts)

    def match(self, list_paths: Callable[[], Iterable[bytes]]) -> None:
        """Match all rows; call it once.

        Args:
            list_paths: Lists the paths of the run's files, relative to the folder, on each call.
        """
        wanted = {key for written in self._rows_by_path for key in self._find_keys(written)}
        existing = wanted.intersection(list_paths())
        del wanted
        pending = {}
        for written, rows in self._rows_by_path.items():
            keys = self._find_keys(written)
            rows.found = next((key for key in keys if key in existing), None)
            if rows.found is None:
                pending[written] = rows
        if pending:
            self._match_pending(pending, list_paths)
        captions: dict[bytes, tuple[Text, ...]] = {}
        for rows in self._rows_by_path.values():
            if rows.found is not None:
                texts = captions.get(rows.found, ()) + rows.texts
                captions[rows.found] = texts if len(texts) < 2 else tuple(dict.fromkeys(texts))
        self.captions = captions
        self.report = self._make_report()
        self._rows_by_path.clear()

    def _make_report(self) -> CaptionsReport:
        found = [rows for rows in self._rows_by_path.values() if rows.found is not None]
        return CaptionsReport(
            path=os.fsdecode(self.path),
            rows=self._num_rows,
            encoding=self.encoding,
            matched=sum(rows.rows for rows in found),
            without_text=sum(rows.rows_without_text for rows in found),
            unmatched=self._unmatched.finish(),
            ambiguous=self._ambiguous.finish(),
            left_out=self._left_out.finish(),
            matched_by_end=self._by_end.finish(),
        )

    def _find_keys(self, written: str) -> list[bytes]:
        """Return a path as it is written, relative to the folder, by each base inside it."""
        try:
            name = _with_slashes(os.fsencode(written))
        except UnicodeEncodeError:
            return []
        is_normal = os.sep == "/" and not (
            name[:1] in b"./" or name[-1:] == b"/" or b"/." in name or b"//" in name
        )
        keys: list[bytes] = []
        for base in self._bases:
            path = base.rstrip(b"/") + b"/" + name
            if not is_normal:
                path = _with_slashes(os.path.normpath(os.path.join(base, name)))  # noqa: PTH118
            keys += [path[len(start) :] for start in self._prefixes if path.startswith(start)]
        return keys

    def _match_pending(
        self, pending: Mapping[str, NamedRows], list_paths: Callable[[], Iterable[bytes]]
    ) -> None:
        """Match the rows whose path is not the path of a picture as it is written."""
        # Rows name few folders, which do not change during a run.
        self._list_names = lru_cache(maxsize=1024)(_list_names)
        readings = {written: list(_read_path(written)) for written in pending}
        finder = _Finder(self._folders, self._bases, chain.from_iterable(readings.values()))
        for path in list_paths():
            finder.add_file(path)
        matches: dict[str, _Match] = {}
        for written, rows in pending.items():
            found = [match for reading in readings[written] if (match := finder.find(reading))]
            best = max(found, key=lambda match: match.rank, default=None)
            if (best is None or not best.is_at_place) and self._exists(readings[written]):
                self._left_out.add(rows.rows, written)
            elif best is None:
                self._unmatched.add(rows.rows, written)
            else:
                matches[written] = best
        self._drop_contradicted(matches, pending, finder.folder_names())
        leaders = self._choose_leaders(matches.values())
        for written, match in matches.items():
            picture, rows = match.pictures[0], pending[written]
            leader = leaders.get(picture)
            if len(match.pictures) > 1:
                self._ambiguous.add(rows.rows, written)
            elif leader is None or not _agree(match.reading, leader):
                self._unmatched.add(rows.rows, written)
            else:
                rows.found = picture
                if not match.is_at_place and (match.start or match.reading.is_absolute):
                    self._by_end.add(rows.rows, f"{written} = {os.fsdecode(picture)}")

    def _drop_contradicted(
        self, matches: dict[str, _Match], pending: Mapping[str, NamedRows], folders: Container[str]
    ) -> None:
        r"""Drop matches by the end of a path where other rows show which folder its start means.

        If D:\Fotos\2019\a.jpg is 2019/a.jpg, then D:\Fotos\2017\b.jpg is not 2018/b.jpg. Neither
        is it if there is a folder 2017.
        """
        known = {
            (match.reading.is_absolute, match.start)
            for match in matches.values()
            if len(match.pictures) == 1 and match.depth > 1
        }
        if any(
            rows.found is not None and "/" in written and not written.startswith("/")
            for written, rows in self._rows_by_path.items()
        ):
            known.add((False, ()))
        for written, match in list(matches.items()):
            start = match.start
            shorter_starts = ((match.reading.is_absolute, start[:end]) for end in range(len(start)))
            is_elsewhere = match.depth == 1 and start and start[-1] in folders
            if not match.is_at_place and (
                is_elsewhere or any(begin in known for begin in shorter_starts)
            ):
                self._unmatched.add(pending[written].rows, written)
                del matches[written]

    def _choose_leaders(self, matches: Iterable[_Match]) -> dict[bytes, _Reading]:
        """Return the path that means each picture, without pictures that paths disagree about."""
        rivals: dict[bytes, list[_Match]] = defaultdict(list)
        for match in matches:
            if len(match.pictures) == 1:
                rivals[match.pictures[0]].append(match)
        leaders = {}
        for picture, group in rivals.items():
            best = max(group, key=lambda match: (match.rank, len(match.reading.parts)))
            if all(_agree(m.reading, best.reading) for m in group if m.rank == best.rank):
                leaders[picture] = best.reading
        # A path that is exactly that of the picture is better than any other.
        for written, rows in self._rows_by_path.items():
            if rows.found in rivals:
                leaders.update((rows.found, reading) for reading in islice(_read_path(written), 1))
        return leaders

    def _exists(self, readings: Iterable[_Reading]) -> bool:
        """Return True if a path is that of a file that is not among the files of the run."""
        for reading in readings:
            try:
                path = os.fsencode("/".join((*[".."] * reading.ups, *reading.parts)))
            except UnicodeEncodeError:
                continue
            for base in [b"/"] if reading.is_absolute else self._bases:
                folder, name = os.path.split(os.path.normpath(os.path.join(base, path)))  # noqa: PTH118
                if name in self._list_names(folder) and os.path.isfile(os.path.join(folder, name)):  # noqa: PTH113, PTH118
                    return True
        return False


_Pictures = dict[str, tuple[bytes, ...]]


class _Finder:
    """Index of the pictures that readings of paths may mean.

    Only what the readings need is held in memory, not the names of all files.

    Args:
        folders: Absolute paths of the indexed folder; there are two if it is behind a link.
        bases: Absolute paths of the folders that paths are relative to.
        readings: All readings to find.
    """

    def __init__(
        self, folders: Sequence[bytes], bases: Sequence[bytes], readings: Iterable[_Reading]
    ) -> None:
        self._path = folders[0]
        self._folder = _split_path(folders[0])
        self._folders = [_fold_parts(_split_path(folder)) for folder in folders]
        self._bases = [_fold_parts(_split_path(base)) for base in bases]
        # Pictures by the end, and by all, of their path below the folder; by name, and by stem.
        self._by_end: list[_Pictures] = [{}, {}]
        self._by_place: list[_Pictures] = [{}, {}]
        self._parents: set[bytes] = set()
        for reading in readings:
            self._by_end[0].update((end, ()) for end in _iter_ends(reading.folded))
            self._by_place[0].update((place, ()) for place in self._iter_places(reading))

    def add_file(self, path: bytes) -> None:
        """Add a file, by its path relative to the folder."""
        parent, _, last_part = path.rpartition(b"/")
        self._parents.add(parent)
        name = _fold(_decode(last_part)).strip()
        for column, last in enumerate((name, _stem(name))):
            if last not in self._by_end[0]:
                continue
            parents = _fold_parts(_split_path(path))[:-1]
            for end in _iter_ends((*self._folders[0], *parents, last)):
                if end not in self._by_end[0]:
                    break
                pictures = self._by_end[column].get(end, ())
                if len(pictures) < _MAX_CANDIDATES:
                    self._by_end[column][end] = (*pictures, path)
            place = "/".join((*parents, last))
            if place in self._by_place[0]:
                self._by_place[column][place] = (*self._by_place[column].get(place, ()), path)

    def folder_names(self) -> set[str]:
        """Return the names of all folders below and beside the folder, as `_fold` returns them."""
        beside = map(_decode, _list_names(os.path.dirname(self._path)))  # noqa: PTH120 - bytes
        below = chain.from_iterable(_split_path(parent) for parent in self._parents)
        return set(map(_fold, chain(beside, below))) - {*self._folders[0][-1:]}

    def find(self, reading: _Reading) -> _Match | None:
        """Return the pictures that fit a reading best, if any do."""
        places = list(self._iter_places(reading))
        for column in range(2):
            for place in places:
                if pictures := self._by_place[column].get(place):
                    return self._narrow(reading, pictures, len(reading.parts), column, True)
        ends = list(_iter_ends(reading.folded))
        for column in range(2):
            for depth in range(len(ends), 0, -1):
                if pictures := self._by_end[column].get(ends[depth - 1]):
                    return self._narrow(reading, pictures, depth, column, False)
        return None

    def _iter_places(self, reading: _Reading) -> Iterator[str]:
        """Yield the paths below the folder that a reading may be."""
        for base in [()] if reading.is_absolute else self._bases:
            place = (*base[: max(0, len(base) - reading.ups)], *reading.folded)
            for folder in self._folders:
                if place[: len(folder)] == folder:
                    yield "/".join(place[len(folder) :])

    def _narrow(
        self, reading: _Reading, pictures: Sequence[bytes], depth: int, column: int, at_place: bool
    ) -> _Match:
        """Keep the pictures whose spelling is closest to that of the reading."""
        spellings = {
            picture: self._compare_spelling(reading.parts[-depth:], picture, column)
            for picture in pictures
        }
        best = max(spellings.values())
        return _Match(
            (at_place, depth, column == 0, best),
            reading,
            [picture for picture, spelling in spellings.items() if spelling == best],
        )

    def _compare_spelling(self, parts: Parts, picture: bytes, column: int) -> int:
        """Return 2 for equal parts, 1 for another Unicode form, and 0 for another letter case."""
        own = [*self._folder, *_split_path(picture)]
        if column:
            own[-1] = _stem(own[-1])
        last = own[-len(parts) :]
        return 2 if last == list(parts) else int([*map(_compose, last)] == [*map(_compose, parts)])


class _Sample:
    """Number of rows of an outcome, with examples."""

    def __init__(self) -> None:
        self._rows = 0
        self._examples: list[str] = []

    def add(self, rows: int, example: str) -> None:
        self._rows += rows
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(example)

    def finish(self) -> RowSample:
        return RowSample(self._rows, tuple(self._examples))


# --- paths ---


def _read_path(written: str) -> Iterator[_Reading]:
    """Yield the readings of a path: as it is, then with percent signs decoded."""
    text = written.strip(_PADDING)
    url = _URL.match(text)
    if url:
        text = text[url.end() :].partition("?")[0] or "/"
    texts = [text, unquote(text)] if _PERCENT.search(text) else [text]
    for path in texts:
        path = path.replace("\\", "/")  # noqa: PLW2901 - the same path
        drive = _DRIVE.match(path)
        if drive:
            path = f"/{path[drive.end() - 2 :]}"  # noqa: PLW2901 - the same path
        parts = posixpath.normpath(path).split("/")
        names = tuple(part for part in parts if part not in ("", ".", ".."))
        if names:
            names = names[-_MAX_PARTS:]
            yield _Reading(names, _fold_parts(names), parts.count(".."), path.startswith("/"))


def _agree(one: _Reading, other: _Reading) -> bool:
    """Return True if one path is the end of the other, so that both may mean one picture."""
    (name, *parents), (other_name, *other_parents) = (
        [*map(_compose, reversed(reading.parts))] for reading in (one, other)
    )
    is_same_name = name in (other_name, _stem(other_name)) or other_name == _stem(name)
    return is_same_name and all(
        parent == other_parent for parent, other_parent in zip(parents, other_parents, strict=False)
    )


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        # Names from before UTF-8; the text of a table in the same encoding matches them.
        return name.decode("cp1252", "replace")


def _with_slashes(path: bytes) -> bytes:
    return path.replace(os.sep.encode(), b"/")


def _real_path(path: bytes) -> bytes:
    return _with_slashes(os.path.realpath(path))


def _split_path(path: bytes) -> Parts:
    return tuple(_decode(part) for part in path.split(b"/") if part)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _compose(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    """Return a name in one Unicode form and letter case."""
    return name.lower() if name.isascii() else _compose(_compose(name).casefold())


@lru_cache(maxsize=10_000)
def _fold_folder(name: str) -> str:
    return _fold(name).strip()


def _fold_parts(parts: Parts) -> Parts:
    # Many paths share their folders; one copy of each saves memory.
    return (*map(_fold_folder, parts[:-1]), *(_fold(name).strip() for name in parts[-1:]))


def _iter_ends(parts: Parts) -> Iterator[str]:
    """Yield the ends of a path, from its name to all of it."""
    end = ""
    for part in reversed(parts):
        end = f"{part}/{end}" if end else part
        yield end


def _list_names(folder: bytes) -> frozenset[bytes]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - bytes
    except (OSError, ValueError):
        return frozenset()
