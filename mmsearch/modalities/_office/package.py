"""Zip packages of XML parts, as office programs write them, read within limits.

The sizes in the directory of a package are checked before a part is unpacked. Parts are parsed
while they are unpacked, so memory does not grow with them. Declarations of entities are refused,
and nothing outside the file is opened.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Final, Protocol
from xml.etree.ElementTree import ParseError

from mmsearch.core.errors import DecodeError

MAX_PART_BYTES: Final = 64_000_000
"""Maximum size of an unpacked part."""

MAX_READ_BYTES: Final = 256_000_000
"""Maximum size of all unpacked parts that are read for one call."""

MAX_RATIO: Final = 400
"""Maximum compression of a part of more than a megabyte: XML of office programs reaches 100."""

MAX_ENTRIES: Final = 65_535

_CHUNK_BYTES: Final = 1 << 16
_SMALL_PART_BYTES: Final = 1_000_000
_ENCRYPTED_FLAG: Final = 1


class XmlTarget(Protocol):
    """Receiver of the elements of a part."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the start of an element, given its name with its namespace in braces."""

    def end(self, tag: str) -> None:
        """Handle the end of an element."""

    def data(self, text: str) -> None:
        """Handle characters."""

    def close(self) -> None:
        """Handle the end of the part."""


class EnoughError(Exception):
    """A target needs no more of its part."""


def local_name(tag: str) -> str:
    """Return the name of an element or an attribute without its namespace."""
    return tag.rpartition("}")[2]


@dataclass(frozen=True)
class Relation:
    """A relation of a part to another part of the package.

    Attributes:
        kind: Last part of its type, such as ``slide``.
        part: Name of the other part.
    """

    kind: str
    part: str


class OfficePackage:
    """An open package.

    Args:
        archive: The zip archive.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._left_bytes = MAX_READ_BYTES

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def parse(self, name: str, target: XmlTarget) -> None:
        """Parse a part.

        Raises:
            DecodeError: It is missing, too large, damaged, or declares entities.
        """
        from defusedxml import DefusedXmlException  # noqa: PLC0415 - only decode workers need it
        from defusedxml.ElementTree import DefusedXMLParser  # noqa: PLC0415

        parser: Any = DefusedXMLParser(target=target, forbid_dtd=True)
        try:
            for chunk in self._unpack(name):
                parser.feed(chunk)
            parser.close()
        except EnoughError:
            pass
        except DefusedXmlException as error:
            raise DecodeError("it declares entities, which office programs never do") from error
        except (ParseError, LookupError, ValueError) as error:
            raise DecodeError("its text is damaged") from error

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Return the content of a part; None if it is missing, damaged or larger than a limit."""
        entry = self._entries.get(name)
        if entry is None or entry.file_size > max_bytes:
            return None
        try:
            return b"".join(self._unpack(name))
        except DecodeError:
            return None

    def relations(self, part: str) -> dict[str, Relation]:
        """Return the relations of a part to others in the package, by id; "" for the package."""
        folder, _, name = part.rpartition("/")
        target = _RelationReader(folder)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path in self:
            self.parse(path, target)
        return {id_: one for id_, one in target.relations.items() if one.part in self}

    def _unpack(self, name: str) -> Iterator[bytes]:
        entry = self._entries.get(name)
        if entry is None:
            raise DecodeError(f"its part {name} is missing")
        if entry.flag_bits & _ENCRYPTED_FLAG:
            raise DecodeError("it can only be opened with its password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DecodeError("it is packed in a way that office programs do not use")
        size = entry.file_size
        is_bomb = size > _SMALL_PART_BYTES and size > MAX_RATIO * max(1, entry.compress_size)
        if is_bomb or size > min(MAX_PART_BYTES, self._left_bytes):
            raise DecodeError(f"it unpacks to {size / 1e6:,.0f} MB of text, more than is safe")
        self._left_bytes -= size
        try:
            with self._archive.open(entry) as part:
                while chunk := part.read(_CHUNK_BYTES):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise DecodeError("its text is damaged") from error


@contextmanager
def open_package(file: BufferedReader) -> Iterator[OfficePackage]:
    """Open a package and close it.

    Raises:
        DecodeError: It is no zip archive, or has too many parts; the message is the reason.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OverflowError) as error:
        raise DecodeError("an office file of which the end is missing") from error
    with archive:
        if len(archive.filelist) > MAX_ENTRIES:
            raise DecodeError(f"it has more than {MAX_ENTRIES:,} parts")
        yield OfficePackage(archive)


class _RelationReader:
    """Reads the relations of a part; those to anything outside the package are left out."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.relations: dict[str, Relation] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if local_name(tag) != "Relationship" or attributes.get("TargetMode") == "External":
            return
        path = posixpath.normpath(posixpath.join("/", self._folder, attributes.get("Target", "")))
        kind = attributes.get("Type", "").rpartition("/")[2]
        self.relations[attributes.get("Id", "")] = Relation(kind, path.lstrip("/"))

    def end(self, tag: str) -> None:
        pass

    def data(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass
