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
from mmsearch.core.records import Record
from mmsearch.core.settings import Settings
from mmsearch.search.image_loader import PictureReader
from mmsearch.server.address_policy import Reach
from mmsearch.server.batcher import Desk
from mmsearch.server.config import Rules
from mmsearch.server.http_url import quoted
from mmsearch.server.index_pool import Desks
from mmsearch.server.jobs import Jobs
from mmsearch.server.metrics import Telemetry
from mmsearch.server.thumbnails import Thumbnails

if TYPE_CHECKING:
    from mmsearch.server.fetch import Fetcher

QUERY_EDGE_PX = 1024
"""Pictures from elsewhere are made so small before anything else looks at them."""

THREADS = 32
"""That may wait for files and decoders at once; further calls wait for one of them."""

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Service:
    """Everything that answers.

    Attributes:
        rules: What is allowed.
        desks: Of the indexes.
        jobs: That bring them up to date.
        pictures: Decodes what comes from elsewhere, and what thumbnails are made of.
        thumbnails: That were made.
        telemetry: What is measured.
        fetcher: Of pictures at URLs; None: the rules do not allow any.
        threads: Wait for disks and decoders.
    """

    rules: Rules
    desks: Desks
    jobs: Jobs
    pictures: PictureReader
    thumbnails: Thumbnails
    telemetry: Telemetry
    fetcher: Fetcher | None = None
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, "mmsearch-files")
    )

    @classmethod
    def of(
        cls,
        settings: Settings,
        rules: Rules,
        names: Callable[[], list[str]],
        say: Callable[[str], None] = lambda line: None,
        reach: Reach | None = None,
    ) -> Service:
        """The service over the indexes of a folder.

        Args:
            settings: With which indexes are opened.
            rules: What is allowed.
            names: The indexes that are served, by name.
            say: Receives a line about anything slow that happens once.
            reach: From where pictures may be fetched; None: from public addresses.

        Raises:
            MissingExtraError: The rules allow URLs, and what fetches is not installed.
        """
        fetcher = _make_fetcher(rules, reach) if rules.url_queries else None

        def open_index(name: str) -> api.Index:
            return api.open_index(name, settings=settings, say=say)

        desks = Desks(open_index, names)
        pictures = api.open_pictures(settings)
        thumbnails = Thumbnails(
            settings.cache / "thumbnails",
            pictures,
            settings.thumbnails_mb,
            follow_links=settings.follow_symlinks,
        )
        jobs, telemetry = Jobs(open_index), Telemetry(desks)
        return cls(rules, desks, jobs, pictures, thumbnails, telemetry, fetcher)

    def close(self) -> None:
        """Interrupt jobs, answer what waits, and free files and processes."""
        self.jobs.close()
        self.desks.close()
        self.pictures.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(
        self, work: Callable[Parameters, Answer], *args: Parameters.args, **more: Parameters.kwargs
    ) -> Answer:
        """Return what ``work`` makes, in one of a few threads, with the deadline of the caller.

        A caller that is cancelled does not wait for the end; what has not begun is dropped.
        """
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: context.run(work, *args, **more))

    async def record(self, desk: Desk, image_id: int) -> Record:
        """What is known of a picture.

        Raises:
            UnknownNameError: There is no such picture.
        """
        record = await desk.ask(lambda index: index.picture(image_id))
        if record is None:
            raise UnknownNameError(f"Index {desk.name!r} has no picture {image_id}.")
        return record

    @asynccontextmanager
    async def uploaded(self, upload: UploadFile) -> AsyncIterator[Path]:
        """A picture that was sent, decoded elsewhere within limits and made small, as a file.

        Raises:
            DecodeError: It cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            sent = Path(folder) / "sent"
            with sent.open("wb") as file:
                while part := await upload.read(1 << 20):
                    file.write(part)
            yield await self._made_small(sent, "The picture that was sent")

    @asynccontextmanager
    async def fetched(self, urls: Iterable[str]) -> AsyncIterator[dict[str, Path]]:
        """Pictures at URLs, as those that are sent; each is fetched once.

        Raises:
            ForbiddenError: The rules do not allow it.
            SourceError: One cannot be had.
            BusyError: Too many are being fetched.
            DecodeError: One cannot be read.
        """
        wanted = list(dict.fromkeys(urls))
        if not wanted:
            yield {}
            return
        if self.fetcher is None:
            raise ForbiddenError(
                "This server fetches no pictures from URLs.",
                "Send the picture itself, or start the server with --allow-url-queries.",
            )
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            places = [Path(folder) / str(number) for number in range(len(wanted))]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._fetched(self.fetcher, *pair))
                        for pair in zip(wanted, places, strict=True)
                    ]
            except* MMSearchError as failed:
                raise _first(failed) from None
            yield dict(zip(wanted, (task.result() for task in tasks), strict=True))

    async def _fetched(self, fetcher: Fetcher, url: str, place: Path) -> Path:
        with place.open("wb") as file:
            await fetcher.fetch(url, file)
        return await self._made_small(place, f"The picture at {quoted(url)}")

    async def _made_small(self, place: Path, named: str) -> Path:
        small = place.with_suffix(".bmp")

        def decode() -> None:
            small.write_bytes(self.pictures.thumbnail(os.fsencode(place), QUERY_EDGE_PX, "BMP"))

        try:
            await self.in_thread(decode)
        except DecodeError as error:
            raise DecodeError(f"{named} cannot be read: {error.message}.") from error
        return small


def _make_fetcher(rules: Rules, reach: Reach | None) -> Fetcher:
    from mmsearch.server.fetch import Fetcher  # noqa: PLC0415 - an extra

    return Fetcher(rules.upload_mb, reach)


def _first(failed: BaseExceptionGroup[MMSearchError]) -> BaseException:
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


# Coroutines, for FastAPI sends plain functions through a pool of threads.


async def service_of(request: Request) -> Service:
    """The service that an application was made for."""
    service: Service = request.app.state.service
    return service


async def desk_of(request: Request, name: str) -> Desk:
    """The desk of the index that a path names."""
    service = await service_of(request)
    return service.desks.desk(name)


TheService = Annotated[Service, Depends(service_of)]
TheDesk = Annotated[Desk, Depends(desk_of)]
