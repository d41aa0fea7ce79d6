"""Tar files as streams, with limits for hostile ones."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from mmsearch.core.files import HEAD_BYTES
from mmsearch.sources._compression import decompress
from mmsearch.sources._members import (
    BASE_MAX_BYTES,
    LINK,
    MAX_GROWTH_RATIO,
    IsPicture,
    LimitError,
    bomb_error,
    max_bytes,
    normalize_name,
    too_large,
)

MAX_HEADER_BYTES: Final = 32_768
"""Maximum size of the extended header of a member, in bytes."""

_READ_BYTES: Final = 1 << 16


class TarReader:
    """Iterator over the names and contents of the wanted members of a tar, read as a stream.

    A member that is refused has its reason, a text, instead of its content.

    Args:
        raw: The file, which is read from its start to its end.
        is_wanted: Returns True for the name and the first bytes of a wanted member.
        only: Name of the one member that is wanted as well, whatever ``is_wanted`` says.
    """

    def __init__(self, raw: BinaryIO, is_wanted: IsPicture, only: bytes | None = None) -> None:
        self._stream = _Budget(raw)
        self._is_wanted = is_wanted
        self._only = only
        self._has_end = False

    def __iter__(self) -> Iterator[tuple[bytes, bytes | str]]:
        reader = self

        class Member(tarfile.TarInfo):
            """Header that is checked when it is read."""

            @classmethod
            def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
                reader._has_end = len(buf) == tarfile.BLOCKSIZE and not any(buf)
                member = super().frombuf(buf, encoding, errors)
                is_extension = not member.isfile() and member.type in b"xgXLK"
                if is_extension and member.size > MAX_HEADER_BYTES:
                    raise LimitError("the header of a member is too large")
                return member

        with tarfile.open(
            fileobj=self._stream,  # type: ignore[call-overload]
            mode="r|",
            bufsize=_READ_BYTES,
            tarinfo=Member,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while (member := tar.next()) is not None:
                # The list of members grows without limit.
                tar.members.clear()
                yield from self._read_member(tar, member)
        if not self._has_end:
            raise EOFError

    def _read_member(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo
    ) -> Iterator[tuple[bytes, bytes | str]]:
        raw_name = member.name.encode("utf-8", "surrogateescape")
        name, reason = normalize_name(raw_name)
        is_link = member.issym() or member.islnk()
        if (not member.isreg() and not is_link) or (self._only not in (None, name)):
            return
        if is_link:
            reason = reason or LINK
        elif member.issparse():
            reason = reason or "it is stored as a sparse file"
        if member.size > max_bytes(name):
            reason = reason or too_large(name)
        file = None if reason else tar.extractfile(member)
        head = b"" if file is None else file.read(HEAD_BYTES)
        if not self._is_wanted(name, head) and self._only is None:
            return
        if file is None:
            yield name, reason or "it cannot be read"
            return
        content = head + file.read()
        if len(content) != member.size:
            raise EOFError
        yield name, content


class _Budget:
    """Stream of the decompressed content of a file that ends a bomb.

    Args:
        raw: The file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._compressed_bytes = 0
        self._bytes = 0
        self._content = decompress(self._read_raw)

    def _read_raw(self, size: int) -> bytes:
        chunk = self._raw.read(size)
        self._compressed_bytes += len(chunk)
        return chunk

    def read(self, size: int) -> bytes:
        """Return the next bytes; `LimitError` beyond the budget."""
        chunk = self._content.read(size)
        self._bytes += len(chunk)
        if self._bytes > BASE_MAX_BYTES + MAX_GROWTH_RATIO * self._compressed_bytes:
            raise bomb_error()
        return chunk
