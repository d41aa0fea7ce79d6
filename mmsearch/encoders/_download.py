"""Download of a file of a hub that survives lost connections and is verified before it is used.

The bytes go to ``NAME.part``, which stays if anything stops the download, and ``NAME.part.json``
says which file they belong to. The next download continues there.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from mmsearch.core.errors import ChecksumError, DiskFullError, DownloadError, ModelUnavailableError
from mmsearch.core.files import create_file
from mmsearch.encoders._hub import (
    BACKOFF_S,
    HubClient,
    HubFile,
    PassingError,
    describe_connection_error,
)
from mmsearch.storage.atomic import file_sha256

CHUNK_BYTES: Final = 1 << 20

SPARE_BYTES: Final = 50_000_000
"""Free space that a download leaves on the disk."""

OnBytes = Callable[[int, int | None], None]
"""Called with the number of bytes that have arrived, and the size of the file if it is known."""

_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Download:
    """The download of one file.

    Args:
        client: Client of the hub.
        file: The file.
        target: Where the complete file goes.
        expected_sha256: Checksum that it must have; None if none is known.
        on_bytes: Called as bytes arrive.
    """

    def __init__(
        self,
        client: HubClient,
        file: HubFile,
        target: Path,
        expected_sha256: str | None,
        on_bytes: OnBytes = lambda done, total: None,
    ) -> None:
        self._client = client
        self._file = file
        self._target = target
        self._expected_sha256 = expected_sha256
        self._on_bytes = on_bytes
        self._part = target.with_name(f"{target.name}.part")
        self._state_file = target.with_name(f"{target.name}.part.json")
        self._size = file.size
        self._etag: str | None = None
        self._digest = hashlib.sha256()
        self._done = 0

    @property
    def kept_bytes(self) -> int:
        """Number of bytes that have arrived in this or an earlier download."""
        if self._target.is_file():
            return self._target.stat().st_size
        return self._part.stat().st_size if self._read_state() else 0

    def run(self) -> str:
        """Download the file, from where an earlier download stopped, and verify it.

        Returns:
            The sha256 of the file, which is now at the target.

        Raises:
            ChecksumError: It is another file than expected; it is deleted.
            DownloadError: The connection was lost again and again; what has arrived is kept.
            DiskFullError: The disk is full; what has arrived is kept.
            ModelUnavailableError: The hub refuses.
        """
        if self._target.is_file():
            # An earlier run was stopped after the download.
            digest = file_sha256(self._target)
            if self._expected_sha256 == digest:
                return digest
            self._target.unlink()
        if not self._read_state():
            if self._state_file.exists():
                self._client.report("The file at the hub has changed; starting again.")
            self._discard()
        elif self.kept_bytes:
            self._client.report(f"Continuing after {format_bytes(self.kept_bytes)}.")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with self._open_part() as part:
            self._hash_kept(part)
            self._receive_all(part)
            os.fsync(part.fileno())
        digest = self._digest.hexdigest()
        if self._expected_sha256 not in (None, digest):
            self._discard()
            raise ChecksumError(
                f"{self._file.name} from {self._client.endpoint} has the sha256 {digest[:12]}..., "
                f"not {(self._expected_sha256 or '')[:12]}...; it was deleted.",
                "Run the same command again; if that does not help, the hub serves another file.",
            )
        self._part.replace(self._target)
        self._state_file.unlink(missing_ok=True)
        return digest

    # --- what an earlier download left ---

    def _read_state(self) -> bool:
        """Return True if the part belongs to this file; remember its ETag."""
        try:
            state = json.loads(self._state_file.read_bytes())
            same = {key: state.get(key) for key in self._identity} == self._identity
            self._etag = state.get("etag")
            return same and self._part.is_file() and self._part.stat().st_size > 0
        except (OSError, ValueError, AttributeError):
            return False

    @property
    def _identity(self) -> dict[str, str | int | None]:
        file = self._file
        # A branch may move; a checksum may not.
        revision = None if self._expected_sha256 else file.revision
        return {
            "repository": file.repository,
            "name": file.name,
            "revision": revision,
            "sha256": self._expected_sha256,
            "size": file.size,
        }

    def _write_state(self) -> None:
        state = json.dumps({**self._identity, "etag": self._etag})
        with create_file(self._state_file) as file:
            file.write(state.encode())

    def _discard(self) -> None:
        self._etag = None
        for path in (self._part, self._state_file):
            path.unlink(missing_ok=True)

    def _open_part(self) -> BinaryIO:
        if not self._part.exists():
            with create_file(self._part):
                pass
        # Without a buffer, all that has arrived is in the file whenever the process ends.
        return self._part.open("rb+", buffering=0)

    def _hash_kept(self, part: BinaryIO) -> None:
        while chunk := part.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self._done += len(chunk)
        if self._size is not None and self._done > self._size:
            self._restart(part)

    def _restart(self, part: BinaryIO) -> None:
        part.seek(0)
        part.truncate()
        self._digest, self._done, self._etag = hashlib.sha256(), 0, None

    # --- what arrives ---

    def _receive_all(self, part: BinaryIO) -> None:
        failures = 0
        while self._size is None or self._done < self._size or not self._done:
            before = self._done
            try:
                self._receive(part)
                if self._size is None:
                    return
                self._require_all()
            except PassingError as error:
                # An attempt that brought something shows that the hub works.
                failures = 1 if self._done > before else failures + 1
                if failures > len(BACKOFF_S):
                    raise self._stopped_error(error) from error
                self._client.wait(error, BACKOFF_S[failures - 1])

    def _require_all(self) -> None:
        if self._size is not None and self._done < self._size:
            raise PassingError("the connection was lost")

    def _receive(self, part: BinaryIO) -> None:
        """Receive bytes until the file is complete or the connection ends."""
        with self._client.open_file(self._file, self._done, self._etag) as response:
            self._check_answer(response, part)
            while True:
                try:
                    chunk = response.read1(CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise PassingError(describe_connection_error(error)) from error
                if not chunk:
                    return
                if self._size is not None and self._done + len(chunk) > self._size:
                    raise self._length_error(f"more than {self._size:,} bytes")
                self._write(part, chunk)
                self._on_bytes(self._done, self._size)

    def _check_answer(self, response: http.client.HTTPResponse, part: BinaryIO) -> None:
        """Compare the headers of an answer with what is known; begin again if they differ."""
        length = response.headers.get("Content-Length") or ""
        announced = int(length) if length.isdecimal() else None
        if response.status == 206:
            start, total = _parse_content_range(response.headers.get("Content-Range"))
            if start != self._done:
                self._restart(part)
                raise PassingError("the hub sent another part of the file than was asked for")
        else:
            if self._done:
                self._client.report("The hub cannot continue a download; starting again.")
                self._restart(part)
            total = announced
        if self._size is None:
            self._size = total
        if total is not None and total != self._size:
            raise self._length_error(f"{total:,} bytes")
        self._etag = response.headers.get("ETag")
        self._write_state()
        self._check_space()

    def _length_error(self, sent: str) -> ModelUnavailableError:
        self._discard()
        return ModelUnavailableError(
            f"The hub announced {self._size:,} bytes for {self._file.name} but sends {sent}.",
            "Run the same command again later.",
        )

    def _write(self, part: BinaryIO, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                written = _write_some(part, view)
            except OSError as error:
                if error.errno in _FULL_ERRNOS:
                    raise self._full_error() from error
                raise
            self._digest.update(view[:written])
            self._done += written
            view = view[written:]

    def _check_space(self) -> None:
        if self._size is not None:
            require_space(self._target.parent, self._size - self._done)

    def _full_error(self) -> DiskFullError:
        missing = "" if self._size is None else f" {format_bytes(self._size - self._done)} are"
        return DiskFullError(
            f"The disk is full ({self._target.parent}):{missing or ' more bytes are'} missing of "
            f"{self._file.name}.",
            "Free some space and run the same command again; it continues from there.",
            errno=errno.ENOSPC,
            kept_bytes=self._done,
        )

    def _stopped_error(self, error: PassingError) -> ModelUnavailableError:
        if not self._done:
            with suppress(OSError):
                self._discard()
            return error.final or self._client.unreachable_error(error.reason)
        size = "" if self._size is None else f" of {format_bytes(self._size)}"
        return DownloadError(
            f"The download of {self._file.name} stopped after {format_bytes(self._done)}{size}: "
            f"{error.reason}.",
            "What has arrived is kept: run the same command again to continue.",
            kept_bytes=self._done,
        )


def _write_some(part: BinaryIO, view: memoryview) -> int:
    """Write at least one byte; return how many."""
    return part.write(view)


def require_space(folder: Path, needed_bytes: int, purpose: str = "") -> None:
    """Raise if a disk has less free space than needed.

    Args:
        folder: A folder on the disk.
        needed_bytes: Bytes that will be written.
        purpose: What they are for, as the rest of a sentence.

    Raises:
        DiskFullError: There is less space.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + min(SPARE_BYTES, needed_bytes):
        raise DiskFullError(
            f"{format_bytes(needed_bytes)} of free space are needed in {folder}{purpose}, but "
            f"there are only {format_bytes(free)}.",
            "Free some space, or set MMSEARCH_CACHE to a folder on another disk.",
            errno=errno.ENOSPC,
        )


def format_bytes(count: int) -> str:
    """Return a size in bytes as text, such as ``605 MB``."""
    if count >= 1_000_000_000:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"


def _parse_content_range(value: str | None) -> tuple[int | None, int | None]:
    """Return start and total of a header such as ``bytes 100-199/200``; None if unknown."""
    unit, _, text = (value or "").partition(" ")
    span, _, total = text.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or not start.isdecimal():
        return None, None
    return int(start), int(total) if total.isdecimal() else None
