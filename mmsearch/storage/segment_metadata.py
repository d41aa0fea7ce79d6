"""Metadata of the rows of a segment, from which a lost catalog can be rebuilt.

It is stored with the vectors as zlib-compressed JSON in the array ``facts``, uint8 (b,).
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

MAX_UNPACKED_BYTES = 1_000_000_000
"""Maximum size of unpacked metadata; a segment of half a million pictures has about 200 MB."""


@dataclass(frozen=True)
class SegmentMetadata:
    """The encoder, and the pictures in row order, with the texts embedded in their files."""

    encoder: EncoderSpec
    pictures: Sequence[EncodedPicture]


def pack_metadata(metadata: SegmentMetadata) -> NDArray[np.uint8]:
    """Serialize and compress metadata for storage in a segment."""
    content = {
        "encoder": asdict(metadata.encoder),
        "pictures": [_picture_to_json(encoded) for encoded in metadata.pictures],
    }
    return np.frombuffer(zlib.compress(json.dumps(content).encode("ascii")), dtype=np.uint8)


def unpack_metadata(packed: NDArray[np.uint8]) -> SegmentMetadata:
    """Decompress and parse metadata from `pack_metadata`.

    Raises:
        ValueError: The data is not valid metadata.
    """
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(packed.tobytes(), MAX_UNPACKED_BYTES)
        if not reader.eof:
            raise ValueError("its metadata is truncated or too large")
        stored = json.loads(content)
        encoder = EncoderSpec(**stored["encoder"])
        return SegmentMetadata(
            encoder, [_picture_from_json(encoded) for encoded in stored["pictures"]]
        )
    except (zlib.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its metadata cannot be read ({error})") from error


def _picture_to_json(encoded: EncodedPicture) -> dict[str, Any]:
    picture_fields = asdict(encoded.picture)
    embedded_texts = [text for text in encoded.picture.texts if text.source == TextSource.METADATA]
    picture_fields["texts"] = [[text.kind, text.text, text.language] for text in embedded_texts]
    return {
        "id": encoded.id,
        "digest": encoded.digest.hex(),
        "picture": picture_fields,
        "texts_digest": encoded.texts_digest.hex(),
        "replaces": encoded.replaces,
    }


def _picture_from_json(stored: dict[str, Any]) -> EncodedPicture:
    picture_fields = dict(stored["picture"])
    texts = tuple(
        Text(k, t, language, TextSource.METADATA) for k, t, language in picture_fields["texts"]
    )
    return EncodedPicture(
        id=int(stored["id"]),
        digest=bytes.fromhex(stored["digest"]),
        picture=Picture(**{**picture_fields, "texts": texts}),
        texts_digest=bytes.fromhex(stored["texts_digest"]),
        replaces=stored["replaces"],
    )
