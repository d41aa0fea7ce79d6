"""Tar files as streams, with limits for hostile ones."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import HEAD_BYTES
from mmsearch.sources._compression import decompress, is_compressed
from mmsearch.sources._members import (
    BASE_MAX_BYTES,
    LINK,
    MAX_GROWTH_RATIO,
    MISSING,
    IsPicture,
    LimitError,
    bomb_error,
    max_bytes,
    normalize_name,
    too_large,
)

MAX_HEADER_BYTES: Final = 32_768
"""Maximum size of the extended header of a member, in bytes."""

MAX_INDEXED_MEMBERS: Final = 500_000
"""Maximum number of members of a tar whose places are remembered."""

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

    def __iter__(self) -> Iterator[tuple[bytes, bytes | str]]:
        for tar, member in _iter_members(fileobj=self._stream, mode="r|", bufsize=_READ_BYTES):
            name, reason = _describe(member)
            if name and self._only in (None, name):
                yield from self._read_member(tar, member, name, reason)

    def _read_member(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: bytes, reason: str | None
    ) -> Iterator[tuple[bytes, bytes | str]]:
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


class TarIndex:
    """Places of the members of a tar, so that single ones are read without those before them.

    Args:
        members: Offset and size of each member by its name, or the reason why it is refused.
    """

    def __init__(self, members: dict[bytes, tuple[int, int] | str]) -> None:
        self.members = members

    @classmethod
    def build(cls, raw: BinaryIO) -> TarIndex | None:
        """Return the index of a tar; None if it is compressed, cannot seek, or is very large."""
        if not raw.seekable() or is_compressed(raw.read(HEAD_BYTES)):
            return None
        raw.seek(0)
        members: dict[bytes, tuple[int, int] | str] = {}
        for _, member in _iter_members(fileobj=raw, mode="r:"):
            name, reason = _describe(member)
            if name:
                members.setdefault(name, reason or (member.offset_data, member.size))
            if len(members) > MAX_INDEXED_MEMBERS:
                return None
        return cls(members)

    def read(self, raw: BinaryIO, name: bytes) -> bytes:
        """Return the content of a member; DecodeError if the tar does not have it."""
        place = self.members.get(name, MISSING)
        if isinstance(place, str):
            raise DecodeError(place)
        offset, size = place
        raw.seek(offset)
        content = raw.read(size)
        if len(content) != size:
            raise EOFError
        return content


def _iter_members(**options: Any) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of a tar; EOFError if it ends before its end is marked."""
    has_end = False

    class Member(tarfile.TarInfo):
        """Header that is checked when it is read."""

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
            nonlocal has_end
            has_end = len(buf) == tarfile.BLOCKSIZE and not any(buf)
            member = super().frombuf(buf, encoding, errors)
            is_extension = not member.isfile() and member.type in b"xgXLK"
            if is_extension and member.size > MAX_HEADER_BYTES:
                raise LimitError("the header of a member is too large")
            return member

    names: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
    tar: Any
    with tarfile.open(tarinfo=Member, **names, **options) as tar:
        while (member := tar.next()) is not None:
            # The list of members grows without limit.
            tar.members.clear()
            yield tar, member
    if not has_end:
        raise EOFError


def _describe(member: tarfile.TarInfo) -> tuple[bytes, str | None]:
    """Return the name of a file, b"" for what is not one, and the reason to refuse it, if any."""
    is_link = member.issym() or member.islnk()
    if not member.isreg() and not is_link:
        return b"", None
    name, reason = normalize_name(member.name.encode("utf-8", "surrogateescape"))
    if is_link:
        reason = reason or LINK
    elif member.issparse():
        reason = reason or "it is stored as a sparse file"
    elif member.size > max_bytes(name):
        reason = reason or too_large(name)
    return name, reason


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
