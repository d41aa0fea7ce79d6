"""Decompression of streams: gzip, bzip2, xz and zstandard, recognized by their first bytes."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from mmsearch.core.errors import MissingExtraError, SourceError

MAX_DICTIONARY_BYTES: Final = 1 << 28
"""Maximum memory of the decompressor of xz and zstandard, in bytes."""

_READ_BYTES: Final = 1 << 16
_MAGIC: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
_HEAD_BYTES: Final = 6

ReadRaw = Callable[[int], bytes]


class Readable(Protocol):
    """Stream of bytes."""

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; b"" at the end."""


class _Chained:
    """Stream that begins with bytes that are read already.

    Args:
        head: The first bytes.
        read_raw: Returns the next bytes.
    """

    def __init__(self, head: bytes, read_raw: ReadRaw) -> None:
        self._head = head
        self._read_raw = read_raw

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; b"" at the end."""
        if not self._head:
            return self._read_raw(size)
        chunk, self._head = self._head[:size], self._head[size:]
        return chunk


class _Decompressed:
    """Stream that decompresses another one; several compressed streams may follow each other.

    Args:
        source: The compressed stream.
        make_decompressor: Makes a decompressor with the interface of `bz2.BZ2Decompressor`.
    """

    def __init__(self, source: Readable, make_decompressor: Callable[[], Any]) -> None:
        self._source = source
        self._make = make_decompressor
        self._decompressor = make_decompressor()
        self._has_output = False

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; b"" at the end; EOFError if the stream ends early."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._source.read(_READ_BYTES)
                # Writers of tapes pad the end with zeros.
                if not rest.strip(b"\0"):
                    return b""
                self._decompressor = self._make()
            elif self._decompressor.needs_input:
                rest = self._source.read(_READ_BYTES)
                if not rest:
                    raise EOFError
            else:
                rest = b""
            chunk: bytes = self._decompressor.decompress(rest, size)
            if chunk:
                return chunk


class _Gzip:
    """Decompressor of gzip with the interface of `bz2.BZ2Decompressor`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._pending = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._pending

    def decompress(self, data: bytes, max_length: int) -> bytes:
        chunk = self._inner.decompress(self._pending + data, max_length)
        self._pending = self._inner.unconsumed_tail
        return chunk


class _Zstandard:
    """Stream that the library zstandard decompresses.

    Args:
        source: The compressed stream.
        library: The module.
    """

    def __init__(self, source: Readable, library: Any) -> None:
        decompressor = library.ZstdDecompressor(max_window_size=MAX_DICTIONARY_BYTES)
        self._stream = decompressor.stream_reader(source, read_across_frames=True)
        self._error = library.ZstdError

    def read(self, size: int) -> bytes:
        try:
            chunk: bytes = self._stream.read(size)
        except self._error as error:
            raise EOFError from error
        return chunk


def decompress(read_raw: ReadRaw) -> Readable:
    """Return the decompressed content of a stream; the stream itself if it is not compressed.

    Args:
        read_raw: Returns up to a number of the next bytes, b"" at the end.

    Raises:
        SourceError: Python cannot decompress it.
    """
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := read_raw(_HEAD_BYTES - len(head))):
        head += chunk
    stream = _Chained(head, read_raw)
    method = _find_method(head)
    if method == "gzip":
        return _Decompressed(stream, _Gzip)
    if method == "bzip2":
        return _Decompressed(stream, bz2.BZ2Decompressor)
    if method == "xz":
        return _Decompressed(
            stream,
            lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY_BYTES),
        )
    if method == "zstandard":
        return _Zstandard(stream, _load_zstandard())
    return stream


def is_compressed(head: bytes) -> bool:
    """Return True if a stream that begins like that is compressed."""
    return _find_method(head) is not None


def _find_method(head: bytes) -> str | None:
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def _load_zstandard() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ModuleNotFoundError as error:
        missing = MissingExtraError.for_extra("Reading .tar.zst", "zstandard", "zstd")
        raise SourceError(missing.message, missing.hint) from error
