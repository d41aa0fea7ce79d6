"""What the routes of a server share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request, UploadFile
from starlette.concurrency import run_in_threadpool

from mmsearch import api
from mmsearch.core.errors import DecodeError, UnknownNameError
from mmsearch.core.records import Record
from mmsearch.core.settings import Settings
from mmsearch.engine.pictures import PictureReader
from mmsearch.server.desk import Desk, Desks
from mmsearch.server.jobs import Jobs
from mmsearch.server.rules import Rules
from mmsearch.server.telemetry import Telemetry
from mmsearch.server.thumbnails import Thumbnails

QUERY_EDGE_PX = 1024
"""Uploaded pictures are made so small before anything else looks at them."""


@dataclass(frozen=True)
class Service:
    """Everything that answers.

    Attributes:
        rules: What is allowed.
        desks: Of the indexes.
        jobs: That bring them up to date.
        pictures: Decodes what was uploaded, and what thumbnails are made of.
        thumbnails: That were made.
        telemetry: What is measured.
    """

    rules: Rules
    desks: Desks
    jobs: Jobs
    pictures: PictureReader
    thumbnails: Thumbnails
    telemetry: Telemetry

    @classmethod
    def of(
        cls,
        settings: Settings,
        rules: Rules,
        names: Callable[[], list[str]],
        say: Callable[[str], None] = lambda line: None,
    ) -> Service:
        """The service over the indexes of a folder.

        Args:
            settings: With which indexes are opened.
            rules: What is allowed.
            names: The indexes that are served, by name.
            say: Receives a line about anything slow that happens once.
        """

        def open_index(name: str) -> api.Index:
            return api.open_index(name, settings=settings, say=say)

        desks = Desks(open_index, names)
        pictures = api.open_pictures(settings)
        thumbnails = Thumbnails(settings.cache / "thumbnails", pictures, settings.thumbnails_mb)
        return cls(rules, desks, Jobs(open_index), pictures, thumbnails, Telemetry(desks))

    def close(self) -> None:
        """Interrupt jobs, answer what waits, and free files and processes."""
        self.jobs.close()
        self.desks.close()
        self.pictures.close()

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
            sent, small = Path(folder) / "sent", Path(folder) / "small.bmp"
            with sent.open("wb") as file:
                while part := await upload.read(1 << 20):
                    file.write(part)

            def decode() -> None:
                small.write_bytes(self.pictures.thumbnail(os.fsencode(sent), QUERY_EDGE_PX, "BMP"))

            try:
                await run_in_threadpool(decode)
            except DecodeError as error:
                raise DecodeError(
                    f"The picture that was sent cannot be read: {error.message}."
                ) from error
            yield small


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
