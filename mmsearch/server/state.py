"""State that the routes of a server share."""

from __future__ import annotations

import asyncio
import contextvars
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request, UploadFile

from mmsearch import api
from mmsearch.core.errors import DecodeError, ForbiddenError, Hint, MMSearchError, UnknownNameError
from mmsearch.core.records import PictureRecord
from mmsearch.core.settings import Settings
from mmsearch.search.image_loader import SandboxedImageLoader
from mmsearch.server.batcher import IndexPool, IndexWorker
from mmsearch.server.config import ServerConfig
from mmsearch.server.forwarded import get_root_path
from mmsearch.server.jobs import Jobs
from mmsearch.server.listening import SpeechQueue
from mmsearch.server.metrics import Metrics
from mmsearch.server.originals import OriginalCopies
from mmsearch.server.thumbnails import ThumbnailCache
from mmsearch.server.writes import IndexWriter, Writers
from mmsearch.sources._web.addresses import AddressPolicy, display_url

if TYPE_CHECKING:
    from mmsearch.sources._web.fetch import Fetcher

QUERY_IMAGE_MAX_PX = 1024
"""Maximum side, in pixels, of untrusted query pictures, which are downscaled before encoding."""

MAX_THREADS = 32
"""Maximum number of threads that wait for files and decoders; further calls are queued."""

Params = ParamSpec("Params")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ServerState:
    """Shared state of a server: configuration, indexes, jobs, caches and metrics.

    Attributes:
        config: Address, token and limits.
        index_pool: Workers of the indexes.
        jobs: Indexing jobs.
        writers: Writers of the indexes.
        image_loader: Decodes uploaded and fetched pictures, and the originals of thumbnails.
        thumbnails: Cache of thumbnails.
        original_copies: Copies of originals that are in no folder.
        metrics: Metrics of the server.
        speech: Recognizes spoken queries.
        fetcher: Fetches pictures from URLs; None if that is not allowed.
        draining: Set if the server stops soon; see `drain`.
        thread_pool: Threads that wait for disks and decoders.
    """

    config: ServerConfig
    index_pool: IndexPool
    jobs: Jobs
    writers: Writers
    image_loader: SandboxedImageLoader
    thumbnails: ThumbnailCache
    original_copies: OriginalCopies
    metrics: Metrics
    speech: SpeechQueue
    fetcher: Fetcher | None = None
    draining: threading.Event = field(default_factory=threading.Event)
    thread_pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(MAX_THREADS, "mmsearch-files")
    )

    @classmethod
    def create(
        cls,
        settings: Settings,
        config: ServerConfig,
        names: Callable[[], list[str]],
        on_message: Callable[[str], None] = lambda line: None,
        address_policy: AddressPolicy | None = None,
    ) -> ServerState:
        """Create the state of a server over the indexes of a folder.

        Args:
            settings: Settings for opening indexes.
            config: Address, token and limits.
            names: Returns the names of the served indexes.
            on_message: Called with a message before slow one-time work.
            address_policy: Addresses that pictures may be fetched from; None for public ones.

        Raises:
            MissingExtraError: URL queries are allowed, but the package that fetches is missing.
        """
        fetcher = _make_fetcher(config, address_policy) if config.allow_url_queries else None

        def open_index(name: str) -> api.Index:
            return api.open_index(name, settings=settings, on_message=on_message)

        def open_indexes(chosen: Sequence[str]) -> api.FederatedIndex:
            return api.open_indexes(chosen, settings=settings, on_message=on_message)

        index_pool = IndexPool(open_index, names, open_indexes=open_indexes)
        image_loader = api.open_image_loader(settings)
        thumbnails = ThumbnailCache(
            settings.cache / "thumbnails",
            image_loader,
            settings.thumbnails_mb,
            follow_links=settings.follow_symlinks,
        )
        writers = Writers(open_index)
        metrics = Metrics(index_pool, writers)
        return cls(
            config,
            index_pool,
            Jobs(open_index),
            writers,
            image_loader,
            thumbnails,
            OriginalCopies(image_loader),
            metrics,
            SpeechQueue(api.open_listener(settings)),
            fetcher,
        )

    def drain(self) -> None:
        """Say that the server stops soon: it is not ready, and asks clients to connect again."""
        self.draining.set()

    def stop(self) -> None:
        """Interrupt jobs and writes; new ones are refused from now on."""
        self.jobs.stop()
        self.writers.stop()

    def close(self) -> None:
        """Interrupt jobs and writes, answer waiting calls, and release files and processes."""
        self.jobs.close()
        self.writers.close()
        self.index_pool.close()
        self.image_loader.close()
        self.speech.close()
        self.original_copies.close()
        self.thread_pool.shutdown(wait=False, cancel_futures=True)

    async def run_in_thread(
        self, work: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """Run ``work`` in the thread pool with the caller's deadline, and return its result.

        A cancelled caller does not wait for the end; work that has not started is dropped.
        """
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.thread_pool, lambda: context.run(work, *args, **kwargs)
        )

    async def load_record(self, worker: IndexWorker, image_id: int) -> PictureRecord:
        """Return the record of a picture.

        Raises:
            UnknownNameError: The index has no such picture.
        """
        record = await worker.run(lambda index: index.picture(image_id))
        if record is None:
            raise UnknownNameError(f"Index {worker.name!r} has no picture {image_id}.")
        return record

    @asynccontextmanager
    async def save_upload(self, upload: UploadFile) -> AsyncIterator[Path]:
        """Yield the path of an uploaded picture, decoded in a sandboxed process and downscaled.

        Raises:
            DecodeError: The picture cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            upload_path = Path(folder) / "sent"
            with upload_path.open("wb") as file:
                while part := await upload.read(1 << 20):
                    file.write(part)
            yield await self._downscale(upload_path, "The uploaded picture")

    @asynccontextmanager
    async def fetch_images(self, urls: Iterable[str]) -> AsyncIterator[dict[str, Path]]:
        """Fetch and downscale pictures, each URL once, and yield their paths by URL.

        Raises:
            ForbiddenError: The server does not allow pictures from URLs.
            SourceError: A picture cannot be fetched.
            BusyError: Too many pictures are being fetched.
            DecodeError: A picture cannot be read.
        """
        unique_urls = list(dict.fromkeys(urls))
        if not unique_urls:
            yield {}
            return
        self.require_fetcher()
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            target_paths = [Path(folder) / str(number) for number in range(len(unique_urls))]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._fetch_image(*pair))
                        for pair in zip(unique_urls, target_paths, strict=True)
                    ]
            except* MMSearchError as errors:
                raise _first_error(errors) from None
            yield dict(zip(unique_urls, (task.result() for task in tasks), strict=True))

    def require_fetcher(self) -> Fetcher:
        """Return the fetcher of pictures.

        Raises:
            ForbiddenError: The server does not allow pictures from URLs.
        """
        if self.fetcher is None:
            raise ForbiddenError(
                "This server does not fetch pictures from URLs.",
                Hint(
                    "Send the picture itself{}.",
                    "; its operator decides whether it fetches URLs",
                    ", or start the server with --allow-url-queries",
                ),
            )
        return self.fetcher

    async def _fetch_image(self, url: str, target_path: Path) -> Path:
        with target_path.open("wb") as file:
            await self.require_fetcher().fetch(url, file)
        return await self._downscale(target_path, f"The picture at {display_url(url)}")

    async def _downscale(self, source_path: Path, description: str) -> Path:
        bitmap_path = source_path.with_suffix(".bmp")

        def decode() -> None:
            bitmap_path.write_bytes(
                self.image_loader.thumbnail(os.fsencode(source_path), QUERY_IMAGE_MAX_PX, "BMP")
            )

        try:
            await self.run_in_thread(decode)
        except DecodeError as error:
            raise DecodeError(f"{description} cannot be read: {error.message}.") from error
        return bitmap_path


def _make_fetcher(config: ServerConfig, address_policy: AddressPolicy | None) -> Fetcher:
    from mmsearch.sources._web.fetch import Fetcher  # noqa: PLC0415 - an extra

    return Fetcher(config.max_upload_mb, address_policy)


def _first_error(errors: BaseExceptionGroup[MMSearchError]) -> BaseException:
    first = errors.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first


# These are coroutines because FastAPI runs plain functions in a thread pool.


async def get_server_state(request: Request) -> ServerState:
    """Return the server state of the application."""
    server_state: ServerState = request.app.state.server_state
    return server_state


async def get_worker(request: Request, name: str) -> IndexWorker:
    """Return the worker of the index named in the path."""
    server_state = await get_server_state(request)
    return server_state.index_pool.worker(name)


async def get_writer(request: Request, name: str) -> IndexWriter:
    """Return the writer of the index named in the path.

    Raises:
        UnknownIndexError: The index is not served.
        ForbiddenError: The server does not change indexes.
    """
    worker = await get_worker(request, name)
    server_state = await get_server_state(request)
    server_state.config.check_indexing()
    return server_state.writers.writer(worker.name)


async def get_client_root_path(request: Request) -> str:
    """Return the path below which the client of a request sees the server; "" for none."""
    return get_root_path(request.scope)


StateDep = Annotated[ServerState, Depends(get_server_state)]
WorkerDep = Annotated[IndexWorker, Depends(get_worker)]
WriterDep = Annotated[IndexWriter, Depends(get_writer)]
RootPathDep = Annotated[str, Depends(get_client_root_path)]
