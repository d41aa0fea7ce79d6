"""What the routes of a server share."""

from __future__ import annotations

import asyncio
import contextvars
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request, UploadFile

from mmsearch import api
from mmsearch.core.errors import DecodeError, ForbiddenError, MMSearchError, UnknownNameError
from mmsearch.core.records import PictureRecord
from mmsearch.core.settings import Settings
from mmsearch.search.image_loader import SandboxedImageLoader
from mmsearch.server.address_policy import AddressPolicy
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.config import ServerConfig
from mmsearch.server.http_url import display_url
from mmsearch.server.index_pool import IndexPool
from mmsearch.server.jobs import Jobs
from mmsearch.server.metrics import Metrics
from mmsearch.server.thumbnails import ThumbnailCache

if TYPE_CHECKING:
    from mmsearch.server.fetch import Fetcher

QUERY_IMAGE_MAX_PX = 1024
"""Pictures from elsewhere are made so small before anything else looks at them."""

MAX_THREADS = 32
"""That may wait for files and decoders at once; further calls wait for one of them."""

Params = ParamSpec("Params")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ServerState:
    """Everything that answers.

    Attributes:
        config: What is allowed.
        index_pool: Of the indexes.
        jobs: That bring them up to date.
        image_loader: Decodes what comes from elsewhere, and what thumbnails are made of.
        thumbnails: That were made.
        metrics: What is measured.
        fetcher: Of pictures at URLs; None: the rules do not allow any.
        thread_pool: Wait for disks and decoders.
    """

    config: ServerConfig
    index_pool: IndexPool
    jobs: Jobs
    image_loader: SandboxedImageLoader
    thumbnails: ThumbnailCache
    metrics: Metrics
    fetcher: Fetcher | None = None
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
        """The service over the indexes of a folder.

        Args:
            settings: With which indexes are opened.
            config: What is allowed.
            names: The indexes that are served, by name.
            on_message: Receives a line about anything slow that happens once.
            address_policy: From where pictures may be fetched; None: from public addresses.

        Raises:
            MissingExtraError: The rules allow URLs, and what fetches is not installed.
        """
        fetcher = _make_fetcher(config, address_policy) if config.allow_url_queries else None

        def open_index(name: str) -> api.Index:
            return api.open_index(name, settings=settings, on_message=on_message)

        index_pool = IndexPool(open_index, names)
        image_loader = api.open_image_loader(settings)
        thumbnails = ThumbnailCache(
            settings.cache / "thumbnails",
            image_loader,
            settings.thumbnails_mb,
            follow_links=settings.follow_symlinks,
        )
        jobs, metrics = Jobs(open_index), Metrics(index_pool)
        return cls(config, index_pool, jobs, image_loader, thumbnails, metrics, fetcher)

    def close(self) -> None:
        """Interrupt jobs, answer what waits, and free files and processes."""
        self.jobs.close()
        self.index_pool.close()
        self.image_loader.close()
        self.thread_pool.shutdown(wait=False, cancel_futures=True)

    async def run_in_thread(
        self, work: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """Return what ``work`` makes, in one of a few threads, with the deadline of the caller.

        A caller that is cancelled does not wait for the end; what has not begun is dropped.
        """
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.thread_pool, lambda: context.run(work, *args, **kwargs)
        )

    async def load_record(self, worker: IndexWorker, image_id: int) -> PictureRecord:
        """What is known of a picture.

        Raises:
            UnknownNameError: There is no such picture.
        """
        record = await worker.run(lambda index: index.picture(image_id))
        if record is None:
            raise UnknownNameError(f"Index {worker.name!r} has no picture {image_id}.")
        return record

    @asynccontextmanager
    async def save_upload(self, upload: UploadFile) -> AsyncIterator[Path]:
        """A picture that was sent, decoded elsewhere within limits and made small, as a file.

        Raises:
            DecodeError: It cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            upload_path = Path(folder) / "sent"
            with upload_path.open("wb") as file:
                while part := await upload.read(1 << 20):
                    file.write(part)
            yield await self._downscale(upload_path, "The picture that was sent")

    @asynccontextmanager
    async def fetch_images(self, urls: Iterable[str]) -> AsyncIterator[dict[str, Path]]:
        """Pictures at URLs, as those that are sent; each is fetched once.

        Raises:
            ForbiddenError: The rules do not allow it.
            SourceError: One cannot be had.
            BusyError: Too many are being fetched.
            DecodeError: One cannot be read.
        """
        unique_urls = list(dict.fromkeys(urls))
        if not unique_urls:
            yield {}
            return
        if self.fetcher is None:
            raise ForbiddenError(
                "This server fetches no pictures from URLs.",
                "Send the picture itself, or start the server with --allow-url-queries.",
            )
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            target_paths = [Path(folder) / str(number) for number in range(len(unique_urls))]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._fetch_image(self.fetcher, *pair))
                        for pair in zip(unique_urls, target_paths, strict=True)
                    ]
            except* MMSearchError as errors:
                raise _first_error(errors) from None
            yield dict(zip(unique_urls, (task.result() for task in tasks), strict=True))

    async def _fetch_image(self, fetcher: Fetcher, url: str, target_path: Path) -> Path:
        with target_path.open("wb") as file:
            await fetcher.fetch(url, file)
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
    from mmsearch.server.fetch import Fetcher  # noqa: PLC0415 - an extra

    return Fetcher(config.max_upload_mb, address_policy)


def _first_error(errors: BaseExceptionGroup[MMSearchError]) -> BaseException:
    first = errors.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first


# Coroutines, for FastAPI sends plain functions through a pool of threads.


async def get_server_state(request: Request) -> ServerState:
    """The service that an application was made for."""
    server_state: ServerState = request.app.state.server_state
    return server_state


async def get_worker(request: Request, name: str) -> IndexWorker:
    """The desk of the index that a path names."""
    server_state = await get_server_state(request)
    return server_state.index_pool.worker(name)


StateDep = Annotated[ServerState, Depends(get_server_state)]
WorkerDep = Annotated[IndexWorker, Depends(get_worker)]
