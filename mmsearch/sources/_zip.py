"""Zip files, with limits for hostile ones."""

from __future__ import annotations

import weakref
import zipfile
from typing import BinaryIO

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import HEAD_BYTES
from mmsearch.sources._members import (
    LINK,
    MISSING,
    SAME_NAME,
    ZIP_ERRORS,
    LimitError,
    failure_reason,
    is_transient,
    max_bytes,
    normalize_name,
    too_large,
)


class ZipReader:
    """An open zip, which is closed when nothing refers to it any more.

    Args:
        file: The file, which can seek.

    Attributes:
        members: Members that are files, by their normalized names.
        refused: Names of members that are not read, and why.
    """

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except BaseException:
            file.close()
            raise
        # Items load their contents for as long as they exist.
        weakref.finalize(self, _close, self._zip, file)
        self.members: dict[bytes, zipfile.ZipInfo] = {}
        self.refused: list[tuple[bytes, str]] = []
        for member in self._zip.infolist():
            if member.is_dir():
                continue
            name, reason = normalize_name(_zip_name(member))
            if member.external_attr >> 28 == 0xA:
                reason = reason or LINK
            if name in self.members:
                reason = SAME_NAME
            if reason:
                self.refused.append((name, reason))
            else:
                self.members[name] = member

    def read_head(self, name: bytes) -> bytes:
        """Return the first bytes of a member; DecodeError if it cannot be read."""
        return self._read(name, HEAD_BYTES)

    def read(self, name: bytes) -> bytes:
        """Return the content of a member; DecodeError if it cannot be read or is damaged."""
        return self._read(name, None)

    def _read(self, name: bytes, size: int | None) -> bytes:
        member = self.members.get(name)
        if member is None:
            raise DecodeError(MISSING)
        if member.flag_bits & 1:
            raise DecodeError("it is encrypted")
        if member.file_size > max_bytes(name):
            raise DecodeError(too_large(name))
        try:
            with self._zip.open(member) as file:
                content = file.read(member.file_size + 1 if size is None else size)
        except (LimitError, *ZIP_ERRORS) as error:
            raise DecodeError(failure_reason(error), transient=is_transient(error)) from error
        if size is None and len(content) != member.file_size:
            raise DecodeError("the archive is damaged")
        return content


def _close(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    archive.close()
    file.close()


def _zip_name(member: zipfile.ZipInfo) -> bytes:
    """Return the name of a member in UTF-8; macOS writes UTF-8 without saying so."""
    if not member.flag_bits & 0x800:
        try:
            raw = member.filename.encode("cp437")
            raw.decode("utf-8")
        except UnicodeError:
            pass
        else:
            return raw
    return member.filename.encode("utf-8", "surrogateescape")
