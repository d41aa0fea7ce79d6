"""An `Index` to fill and to search."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from mmsearch import assembly
from mmsearch.core.errors import DecodeError, InvalidQueryError, SourceError
from mmsearch.core.layout import IndexLayout, writer_lock
from mmsearch.core.protocols import Catalog
from mmsearch.core.records import Root
from mmsearch.core.requests import (
    Hit,
    IndexReport,
    IndexRequest,
    IndexStatus,
    Progress,
    SearchResult,
)
from mmsearch.core.settings import Settings, load_settings
from mmsearch.core.types import display_path
from mmsearch.engine.searcher import SearchEngine

StrPath = str | bytes | os.PathLike[str]


def open_index(
    name: str = "default",
    *,
    home: str | os.PathLike[str] | None = None,
    model: str | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    say: Callable[[str], None] | None = None,
) -> Index:
    """Open an index by name; it comes into being with the first folder that is added.

    Args:
        name: Letters, digits, ``.``, ``_`` and ``-``.
        home: Folder of the indexes; default as in `Settings.indexes_home`.
        model: Encoder of a new index: ``auto``, ``starter``, ``open_clip:ARCH/TAG`` or
            ``open_clip:ARCH@FILE``. An index that exists has its own for life.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        settings: Instead of the settings file and the environment.
        say: Receives a line about anything slow that happens once.

    Raises:
        UsageError: The name cannot be an index's name.
    """
    chosen = (settings or load_settings()).with_flags(
        home=None if home is None else Path(home), model=model, device=device
    )
    return Index(IndexLayout.of(chosen.indexes_home(), name), chosen, say or (lambda line: None))


class Index:
    """One index. Not for use by several threads at once."""

    def __init__(self, layout: IndexLayout, settings: Settings, say: Callable[[str], None]) -> None:
        self._layout = layout
        self._settings = settings
        self._say = say
        self._open = ExitStack()
        self._catalog: Catalog | None = None
        self._engine: SearchEngine | None = None

    @property
    def name(self) -> str:
        """The index's name."""
        return self._layout.name

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._layout.folder

    def exists(self) -> bool:
        """Whether anything was ever indexed into it."""
        return self._layout.exists()

    # --- filling ---

    def add_folder(
        self,
        folder: StrPath,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        follow_symlinks: bool = False,
        hidden: bool = False,
        retry_failed: bool = False,
        allow_empty: bool = False,
        wait_s: float = 0.0,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> IndexReport:
        """Bring the index up to date with a folder of pictures.

        Unchanged files are not opened, moved and copied ones not decoded, vanished ones forgotten.
        Work is committed every few seconds: after an interruption the next call goes on from there.

        Args:
            folder: With all that lies below it.
            include: Globs; only files that match one are taken.
            exclude: Globs; files and folders that match one are left out.
            follow_symlinks: Enter linked folders, each real folder once.
            hidden: Take hidden files and folders too.
            retry_failed: Read files again that failed, though they have not changed.
            allow_empty: Accept that a folder that had pictures has none now.
            wait_s: How long to wait for another writer, in seconds.
            progress: Called often, from several threads.

        Returns:
            What was done, with every file that could not be read.

        Raises:
            SourceError: The folder cannot be used.
            IndexLockedError: Another process is writing the index.
            EncoderMismatchError: The index belongs to another encoder.
            ModelUnavailableError: The encoder's weights cannot be had.
        """
        request = IndexRequest(
            folder=_folder_bytes(folder),
            include=tuple(include),
            exclude=tuple(exclude),
            follow_symlinks=follow_symlinks,
            hidden=hidden,
            retry_failed=retry_failed,
            allow_empty=allow_empty,
        )
        with (
            assembly.writing(self._layout, wait_s, create=True) as catalog,
            assembly.make_indexer(self._layout, catalog, self._settings, self._say) as indexer,
        ):
            return indexer.run(request, progress)

    # --- searching ---

    def search(self, text: str, k: int = 10, *, min_score: float | None = None) -> list[Hit]:
        """The pictures that a sentence describes best.

        Args:
            text: The description.
            k: How many at most.
            min_score: Hits below this cosine similarity are left out.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            InvalidQueryError: The text has no words, or k is below 1.
        """
        return list(self.query(text, k, min_score=min_score).hits)

    def similar(self, image: StrPath, k: int = 10, *, min_score: float | None = None) -> list[Hit]:
        """The pictures that look most like a picture; if it is in the index itself, it is first.

        Args:
            image: A file.
            k: How many at most.
            min_score: Hits below this cosine similarity are left out.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            SourceError: The file cannot be read as a picture.
        """
        return list(self.query_image(image, k, min_score=min_score).hits)

    def query(self, text: str, k: int = 10, *, min_score: float | None = None) -> SearchResult:
        """As `search`, with timings, devices and the generation that was searched."""
        engine = self._searcher()
        return _empty(self, text) if engine is None else engine.search_text(text, k, min_score)

    def query_image(
        self, image: StrPath, k: int = 10, *, min_score: float | None = None
    ) -> SearchResult:
        """As `similar`, with timings, devices and the generation that was searched."""
        path = os.fsencode(image)
        name = display_path(path)
        engine = self._searcher()
        try:
            for modality in assembly.make_modalities(self._settings):
                if engine is None:
                    return _empty(self, name)
                pixels = modality.read(path, engine.image_edge_px).pixels
                return engine.search_image(name, pixels, k, min_score)
        except DecodeError as error:
            raise SourceError(f"{name} cannot be used as a query: {error.message}.") from error
        raise SourceError(f"{name} is not a kind of file that is indexed.")

    def thumbnail(self, hit: Hit, edge_px: int = 256) -> bytes | None:
        """A JPEG of a hit whose long side is at most ``edge_px``; None if the file is gone."""
        path = os.fsencode(hit.path)
        for modality in assembly.make_modalities(self._settings):
            try:
                return modality.thumbnail(path, edge_px)
            except DecodeError:
                continue
        return None

    # --- looking after it ---

    def status(self) -> IndexStatus:
        """What the index holds.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
        """
        catalog = self._reader()
        with catalog.snapshot() as snapshot:
            return IndexStatus(
                name=self.name,
                folder=self.folder,
                identity=snapshot.identity,
                generation=snapshot.generation,
                pictures=snapshot.pictures,
                files=catalog.file_count(),
                failures=tuple(catalog.failures()),
                roots=tuple(catalog.roots()),
                built=snapshot.built,
                waiting=sum(segment.rows for segment in snapshot.tail),
                bytes_by_part=_sizes(self._layout),
                last_run=catalog.last_run(),
            )

    def roots(self) -> list[Root]:
        """The folders that are indexed."""
        return self._reader().roots()

    def set_root(self, name: str, folder: StrPath, *, wait_s: float = 0.0) -> Root:
        """Say where a folder lies now; nothing is encoded again.

        Raises:
            UnknownNameError: No root of that name.
            SourceError: The folder does not exist.
        """
        path = _folder_bytes(folder)
        with assembly.writing(self._layout, wait_s, create=False) as catalog:
            return catalog.move_root(name, path)

    def remove(self) -> None:
        """Delete the index; the pictures stay.

        Raises:
            UnknownIndexError: There is none.
            IndexLockedError: Another process is writing it.
        """
        self._reader()
        self.close()
        with writer_lock(self._layout):
            # The catalog goes first: what is left then is no index any more, whatever happens.
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._layout.catalog}{suffix}").unlink(missing_ok=True)
        shutil.rmtree(self._layout.folder)

    def close(self) -> None:
        """Free files and memory; the index may be used again afterwards."""
        self._open.close()
        self._catalog = self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _reader(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._open.enter_context(assembly.reading(self._layout))
        return self._catalog

    def _searcher(self) -> SearchEngine | None:
        """None while the index holds nothing that could be searched."""
        if self._engine is None:
            catalog = self._reader()
            identity = catalog.identity()
            if identity is None:
                return None
            self._engine = assembly.make_search_engine(
                self._layout, catalog, identity, self._settings, self._say
            )
        return self._engine


def list_indexes(home: str | os.PathLike[str] | None = None) -> list[IndexStatus]:
    """The indexes of a folder, by name."""
    folder = load_settings().with_flags(home=None if home is None else Path(home)).indexes_home()
    found = []
    for catalog in sorted(folder.glob("*/catalog.sqlite")):
        with open_index(catalog.parent.name, home=folder) as index:
            found.append(index.status())
    return found


def _folder_bytes(folder: StrPath) -> bytes:
    path = os.path.abspath(os.path.expanduser(os.fsencode(folder)))  # noqa: PTH100, PTH111
    shown = display_path(path)
    if not os.path.exists(path):  # noqa: PTH110 - bytes paths need os.path
        raise SourceError(f"There is no folder {shown}.")
    if not os.path.isdir(path):  # noqa: PTH112
        raise SourceError(f"{shown} is a file, not a folder.", "Name the folder that holds it.")
    return path


def _sizes(layout: IndexLayout) -> dict[str, int]:
    catalog = layout.folder.glob("catalog.sqlite*")
    sizes = {"catalog": sum(path.stat().st_size for path in catalog)}
    for part in ("segments", "ann"):
        files = (layout.folder / part).glob("*")
        sizes[part] = sum(path.stat().st_size for path in files)
    return sizes


def _empty(index: Index, query: str) -> SearchResult:
    if not query.strip():
        raise InvalidQueryError("The query is empty.", 'Describe a picture: "a red car"')
    return SearchResult(query, (), 0, 0, "", {}, 0, {})
