"""What a segment says of its own rows, so that a lost catalog can be made again from segments.

Kept beside the vectors as zlib-compressed JSON in the field ``facts``, uint8 (b,).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.records import EncodedPicture
from mmsearch.core.types import EncoderSpec, Picture, Text, TextSource

MAX_BYTES = 1_000_000_000
"""Unpacked; a segment of half a million pictures has about 200 MB."""


@dataclass(frozen=True)
class SegmentFacts:
    """The encoder, and the pictures in the order of the rows, with the texts of their own files."""

    encoder: EncoderSpec
    pictures: Sequence[EncodedPicture]


def pack(facts: SegmentFacts) -> NDArray[np.uint8]:
    """Facts as a segment keeps them."""
    content = {
        "encoder": asdict(facts.encoder),
        "pictures": [_plain(item) for item in facts.pictures],
    }
    return np.frombuffer(zlib.compress(json.dumps(content).encode("ascii")), dtype=np.uint8)


def unpack(packed: NDArray[np.uint8]) -> SegmentFacts:
    """What `pack` made.

    Raises:
        ValueError: It is not that.
    """
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(packed.tobytes(), MAX_BYTES)
        if not reader.eof:
            raise ValueError("its facts are cut short, or too many")
        stored = json.loads(content)
        encoder = EncoderSpec(**stored["encoder"])
        return SegmentFacts(encoder, [_picture(item) for item in stored["pictures"]])
    except (zlib.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its facts cannot be read ({error})") from error


def _plain(item: EncodedPicture) -> dict[str, Any]:
    facts = asdict(item.picture)
    own = [text for text in item.picture.texts if text.source == TextSource.METADATA]
    facts["texts"] = [[text.kind, text.text, text.language] for text in own]
    return {
        "id": item.id,
        "digest": item.digest.hex(),
        "picture": facts,
        "texts_digest": item.texts_digest.hex(),
        "replaces": item.replaces,
    }


def _picture(stored: dict[str, Any]) -> EncodedPicture:
    facts = dict(stored["picture"])
    texts = tuple(Text(k, t, language, TextSource.METADATA) for k, t, language in facts["texts"])
    return EncodedPicture(
        id=int(stored["id"]),
        digest=bytes.fromhex(stored["digest"]),
        picture=Picture(**{**facts, "texts": texts}),
        texts_digest=bytes.fromhex(stored["texts_digest"]),
        replaces=stored["replaces"],
    )
