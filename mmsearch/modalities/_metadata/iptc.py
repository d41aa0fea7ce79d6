"""Read IPTC-IIM, the metadata that news programs and Photoshop write."""

from __future__ import annotations

import struct
from typing import Final

from mmsearch.core.texts import make_texts
from mmsearch.core.types import TextSource
from mmsearch.modalities._metadata.exif import decode_text
from mmsearch.modalities._texts.dates import Role
from mmsearch.modalities._texts.facts import Facts

_MARKER: Final = 0x1C
_CHARACTER_SET: Final = (1, 90)

# Datasets of the second record: object name, headline, caption.
_TEXT_KINDS: Final = {5: "title", 105: "title", 120: "description"}
_KEYWORDS: Final = 25
# Sublocation, city, state, country, and the name of a content location.
_PLACES: Final = (92, 90, 95, 101, 27)
# Date and time of each role.
_DATES: Final = ((55, 60, Role.ORIGINAL), (62, 63, Role.DIGITIZED))

# Character sets by their escape sequence. Without one, texts are in UTF-8 or Windows-1252.
_ENCODINGS: Final = {
    b"\x1b%G": "utf-8",
    b"\x1b%/G": "utf-8",
    b"\x1b%/H": "utf-8",
    b"\x1b%/I": "utf-8",
    b"\x1b.A": "latin-1",
    b"\x1b.B": "iso8859-2",
    b"\x1b.F": "iso8859-7",
    b"\x1b-A": "latin-1",
    b"\x1b-B": "iso8859-2",
    b"\x1b-F": "iso8859-7",
    b"\x1b-L": "iso8859-5",
    b"\x1b-M": "iso8859-9",
}


def read_iptc(block: bytes) -> Facts:
    """Return the statements of an IPTC block; those before the damage if it is damaged."""
    datasets = _parse(block)
    encoding = _ENCODINGS.get((datasets.get(_CHARACTER_SET) or [b""])[0].rstrip(b"\0 "))

    def values(number: int) -> list[str]:
        texts = (decode_text(value, encoding) for value in datasets.get((2, number), ()))
        return [text for text in texts if text]

    facts = Facts(
        texts=[
            text
            for number, kind in _TEXT_KINDS.items()
            for value in values(number)
            for text in make_texts(kind, value, TextSource.METADATA)
        ],
        keywords=values(_KEYWORDS),
        places=[place for number in _PLACES for place in values(number)],
    )
    for date_number, time_number, role in _DATES:
        for date in values(date_number)[:1]:
            time = "".join(values(time_number)[:1])
            facts.add_date(role, "iptc", f"{date}T{time}" if time else date)
    return facts


def _parse(block: bytes) -> dict[tuple[int, int], list[bytes]]:
    """Return the values by record and dataset number."""
    datasets: dict[tuple[int, int], list[bytes]] = {}
    offset = 0
    while len(block) >= offset + 5 and block[offset] == _MARKER:
        record, number, size = struct.unpack_from(">BBH", block, offset + 1)
        offset += 5
        if size & 0x8000:
            # The size of a long value is stored in as many bytes as this field says.
            size_bytes = size & 0x7FFF
            size = int.from_bytes(block[offset : offset + size_bytes])
            offset += size_bytes
        datasets.setdefault((record, number), []).append(block[offset : offset + size])
        offset += size
    return datasets
