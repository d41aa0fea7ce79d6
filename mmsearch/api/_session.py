"""The open parts of an index, shared by the threads that use it, and the errors of its methods."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from mmsearch.core.arguments import check_arguments
from mmsearch.core.errors import (
    DamagedFileError,
    EncoderMismatchError,
    MMSearchError,
    to_storage_error,
)
from mmsearch.core.identity import empty_index_error
from mmsearch.core.query import EncodedQuery, Mode, SearchRequest, Term
from mmsearch.core.results import SearchResult
from mmsearch.core.settings import Settings
from mmsearch.core.types import Vectors
from mmsearch.factories import catalogs
from mmsearch.search.query_parser import check_request, format_query
from mmsearch.storage.layout import IndexLayout

if TYPE_CHECKING:
    from pathlib import Path

    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.identity import Identity
    from mmsearch.core.protocols import ImagePreprocessor
    from mmsearch.core.types import ModelInput
    from mmsearch.factories.warm_parts import WarmParts
    from mmsearch.search.engine import SearchEngine
    from mmsearch.search.image_loader import Originals, SandboxedImageLoader
    from mmsearch.search.listener import Listener

Kind = TypeVar("Kind")


class IndexSession:
    """Opens catalog, search engine and image loader on first use, and closes them.

    All methods are safe for many threads. A search engine lets one thread encode while another one
    answers, so each half has its own lock: two threads that search overlap. `close` waits for the
    calls that are running. A process that was forked from this one opens everything for itself.

    Args:
        layout: Files of the index.
        settings: Settings of this process.
        on_message: Called with a message before slow one-time work.
    """

    def __init__(
        self, layout: IndexLayout, settings: Settings, on_message: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._on_message = on_message
        self._start_empty()
        _sessions.add(self)

    def _start_empty(self) -> None:
        self._encoding = threading.RLock()
        self._answering = threading.RLock()
        self._state = threading.Condition(threading.RLock())
        self._running_calls = 0
        self._resources = ExitStack()
        self._catalog: CatalogReader | None = None
        self._engine: SearchEngine | None = None
        self._image_loader: SandboxedImageLoader | None = None
        self._originals: Originals | None = None
        self._warm_parts: WarmParts | None = None
        self._listener: Listener | None = None

    def forget_parent(self) -> None:
        """Forget what the parent process has opened, without closing it."""
        # Destructors would wait for threads that do not exist in this process, and closing a
        # database would drop the locks of the parent.
        _inherited.append(dict(vars(self)))
        self._start_empty()

    # --- search ---

    def search(self, requests: Sequence[SearchRequest]) -> list[SearchResult | MMSearchError]:
        """Return the result or the error of each request; reopen an index that was re-encoded."""
        try:
            return self._search(requests)
        except EncoderMismatchError:
            # The encoder of the index has changed since it was opened.
            self.close()
            return self._search(requests)

    def search_one(self, request: SearchRequest) -> SearchResult:
        """Return the result of a request, or raise its error."""
        (answer,) = self.search([request])
        return result_or_raise(answer)

    def read(self, request: SearchRequest) -> tuple[EncodedQuery, SearchResult | None]:
        """Return a request with the filters that its words mean, and its result.

        The result is None if only filters remain of the query, or if the index is empty.

        Raises:
            MMSearchError: The request is invalid or fails.
        """
        try:
            return self._read(request)
        except EncoderMismatchError:
            # As in `search`.
            self.close()
            return self._read(request)

    def encode(
        self, requests: Sequence[SearchRequest]
    ) -> list[EncodedQuery | MMSearchError] | None:
        """Return the encoded query or the error of each request; None while the index is empty."""
        with self._call(), self._encoding:
            engine = self._load_engine()
            return None if engine is None else engine.encode(requests)

    def answer(
        self, encoded: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """Return the result or the error of each encoded query.

        Raises:
            StateError: The index is empty.
        """
        return self._answer(encoded)

    def embed(self, terms: Sequence[Term]) -> Vectors:
        """Return the unit vectors of terms, float32 (n, dim).

        Raises:
            StateError: The index is empty.
        """
        with self._call(), self._encoding:
            return self._require_engine().embed(terms)

    # --- catalog and pictures ---

    @contextmanager
    def catalog(self) -> Iterator[CatalogReader]:
        """Open the catalog for reading; it stays open until `close`."""
        with self._call():
            with self._state:
                if self._catalog is None:
                    self._catalog = self._open_catalog()
                    self._resources.callback(self._catalog.close)
                catalog = self._catalog
            yield catalog

    @contextmanager
    def originals(self) -> Iterator[Originals]:
        """Open the original files of pictures; their digests stay cached until `close`."""
        from mmsearch.search.image_loader import Originals  # noqa: PLC0415 - searches never need it

        with self._call():
            with self._state:
                if self._originals is None:
                    self._originals = Originals(
                        self._load_image_loader(), follow_links=self._settings.follow_symlinks
                    )
                originals = self._originals
            yield originals

    @contextmanager
    def warm_parts(self) -> Iterator[WarmParts]:
        """Return the parts that encode new pictures; they are kept until `close`."""
        from mmsearch.factories.warm_parts import WarmParts  # noqa: PLC0415 - searches never need it

        with self._call():
            with self._state:
                if self._warm_parts is None:
                    self._warm_parts = WarmParts(self._settings, self._on_message)
                warm_parts = self._warm_parts
            yield warm_parts

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        """Return the part that hears spoken questions; it is kept until `close`."""
        from mmsearch.factories.speech import make_listener  # noqa: PLC0415 - most queries are typed

        with self._call():
            with self._state:
                if self._listener is None:
                    self._listener = make_listener(self._settings)
                    self._resources.callback(self._listener.close)
                listener = self._listener
            yield listener

    # --- resources ---

    def release(self) -> None:
        """Free what only pictures and speech need; queries of texts stay fast."""
        if self._warm_parts is not None:
            self._warm_parts.close()
        with self._call(), self._encoding, self._state:
            if self._engine is not None:
                self._engine.release()
            if self._image_loader is not None:
                self._image_loader.close()
            if self._listener is not None:
                self._listener.close()

    def close(self) -> None:
        """Release files and memory after the calls that are running. It can be used again."""
        with self._state:
            self._state.wait_for(lambda: not self._running_calls)
            try:
                self._resources.close()
            finally:
                if self._warm_parts is not None:
                    self._warm_parts.close()
            self._catalog = None
            self._engine = None
            self._image_loader = None
            self._originals = None
            self._listener = None

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Keep resources open. Calls may nest, so a waiting `close` does not stop new ones."""
        with self._state:
            self._running_calls += 1
        try:
            yield
        finally:
            with self._state:
                # A fork within a call begins at 0 again.
                self._running_calls = max(0, self._running_calls - 1)
                self._state.notify_all()

    def _search(self, requests: Sequence[SearchRequest]) -> list[SearchResult | MMSearchError]:
        encoded = self.encode(requests)
        if encoded is None:
            return [_empty_result(request) for request in requests]
        return self.answer(encoded)

    def _read(self, request: SearchRequest) -> tuple[EncodedQuery, SearchResult | None]:
        outcomes = self.encode([request])
        if outcomes is None:
            return EncodedQuery(check_request(request), encoder="", seconds=0.0), None
        (encoded,) = outcomes
        if isinstance(encoded, MMSearchError):
            raise encoded
        if not encoded.request.query.terms:
            return encoded, None
        return encoded, result_or_raise(*self._answer([encoded]))

    def _answer(
        self, encoded: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        with self._call(), self._answering:
            return self._require_engine().answer(encoded)

    def _require_engine(self) -> SearchEngine:
        engine = self._load_engine()
        if engine is None:
            raise empty_index_error()
        return engine

    def _load_engine(self) -> SearchEngine | None:
        """Return the search engine; None while the index is empty."""
        with self._state:
            if self._engine is None:
                catalog = self._open_catalog()
                identity = catalog.identity()
                if identity is None:
                    catalog.close()
                    return None
                self._resources.callback(catalog.close)
                self._engine = self._make_engine(catalog, identity)
            return self._engine

    def _open_catalog(self) -> CatalogReader:
        return catalogs.open_reader(self._layout)

    def _make_engine(self, catalog: CatalogReader, identity: Identity) -> SearchEngine:
        from mmsearch.factories.search import make_search_engine  # noqa: PLC0415 - writers need none

        return make_search_engine(
            self._layout, catalog, identity, self._load_image, self._settings, self._on_message
        )

    def _load_image(self, path: Path, prepare: ImagePreprocessor) -> ModelInput:
        return self._load_image_loader().load(path, prepare)

    def _load_image_loader(self) -> SandboxedImageLoader:
        from mmsearch.factories.search import make_image_loader  # noqa: PLC0415 - texts need none

        with self._state:
            if self._image_loader is None:
                self._image_loader = make_image_loader(self._settings)
                self._resources.callback(self._image_loader.close)
            return self._image_loader


_sessions: WeakSet[IndexSession] = WeakSet()
_inherited: list[dict[str, Any]] = []


def _forget_parent() -> None:
    if _sessions:
        # Garbage of the parent, such as a closed model, must not be collected here either.
        gc.freeze()
    for session in list(_sessions):
        session.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def _empty_result(request: SearchRequest) -> SearchResult | MMSearchError:
    """Return the result of a request to an empty index, or its error if it is invalid."""
    try:
        check_request(request)
    except MMSearchError as error:
        return error
    return SearchResult(
        format_query(request.query.terms),
        request.query.mode or Mode.VECTOR,
        hits=(),
        match=None,
        calibrated=False,
        generation=0,
        pictures=0,
        passed=0,
        encoder="",
        timings_s={},
        dropped_tokens=0,
        devices={},
    )


def result_or_raise(answer: SearchResult | MMSearchError) -> SearchResult:
    """Return the result of a request, or raise its error."""
    if isinstance(answer, MMSearchError):
        raise answer
    return answer


MAINTENANCE_METHODS = frozenset({"check", "repair", "remove", "restore_from"})
"""Methods that find or replace damage themselves."""


def translate_errors(decorated: type[Kind]) -> type[Kind]:
    """Check the arguments and translate the errors of all public methods of a class.

    The class has the layout of an index. See `check_arguments` for the arguments.

    An `OSError` or a `MemoryError` becomes a `StorageError`. After any other unexpected error, the
    catalog is checked, because an invalid value in it can break any code that reads it: if it is
    damaged, a `DamagedFileError` is raised, else the original error.
    """
    for name, method in vars(decorated).items():
        if not name.startswith("_") and isinstance(method, FunctionType):
            checked = check_arguments(f"Index.{name}")(method)
            setattr(decorated, name, _translate_method_errors(name, checked))
    return decorated


def _translate_method_errors(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except MMSearchError:
            raise
        except Exception as error:
            translated = to_storage_error(error)
            if translated is None and name not in MAINTENANCE_METHODS:
                layouts = getattr(self, "_layouts", None) or [self._layout]
                translated = next(filter(None, map(_find_damage, layouts)), None)
            if translated is None:
                raise
            raise translated from error

    return wrapper


def _find_damage(layout: IndexLayout) -> DamagedFileError | None:
    # Only errors need these.
    from mmsearch.core.reports import Severity  # noqa: PLC0415
    from mmsearch.maintenance.check import check_catalog  # noqa: PLC0415
    from mmsearch.storage.atomic import REPAIR_HINT  # noqa: PLC0415

    for finding in check_catalog(layout, compare_checksum=False):
        if finding.weight is Severity.DAMAGE:
            return DamagedFileError(finding.message, REPAIR_HINT)
    return None
