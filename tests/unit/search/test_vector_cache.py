"""What is kept between processes is what would be made anew."""

import dataclasses

import numpy as np
import pytest

from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.vector_cache import KeptVectors
from tests.toy import ToyEncoder

TEXTS = ("a photo", "a thing")


def made(texts):
    return np.full(ToyEncoder().spec.dim, len(texts), dtype=np.float32)


def never(texts):
    pytest.fail("made again")


def test_it_is_made_once(tmp_path):
    first = KeptVectors(tmp_path / "kept", ToyEncoder()).get(TEXTS, made)
    second = KeptVectors(tmp_path / "kept", ToyEncoder()).get(TEXTS, never)
    assert second.dtype == np.float32
    np.testing.assert_array_equal(first, second)


def test_other_texts_and_encoders_have_others(tmp_path):
    KeptVectors(tmp_path, ToyEncoder()).get(TEXTS, made)
    KeptVectors(tmp_path, ToyEncoder()).get(TEXTS[:1], made)
    other = ToyEncoder()
    other.spec = dataclasses.replace(other.spec, weights_sha256="f" * 64)
    KeptVectors(tmp_path, other).get(TEXTS, made)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b[:-1] + b"\x01", lambda b: b""])
def test_what_is_damaged_is_made_again(tmp_path, harm):
    whole = KeptVectors(tmp_path, ToyEncoder()).get(TEXTS, made)
    (file,) = tmp_path.iterdir()
    file.write_bytes(harm(file.read_bytes()))
    times = []

    def made_again(texts):
        times.append(texts)
        return made(texts)

    kept = KeptVectors(tmp_path, ToyEncoder())
    np.testing.assert_array_equal(kept.get(TEXTS, made_again), whole)
    assert len(times) == 1
    np.testing.assert_array_equal(KeptVectors(tmp_path, ToyEncoder()).get(TEXTS, never), whole)


def test_it_is_read_once(tmp_path):
    KeptVectors(tmp_path, ToyEncoder()).get(TEXTS, made)
    kept = KeptVectors(tmp_path, ToyEncoder())
    first = kept.get(TEXTS, never)
    (file,) = tmp_path.iterdir()
    file.unlink()
    np.testing.assert_array_equal(kept.get(TEXTS, never), first)


def test_where_nothing_can_be_kept_it_is_made_by_each(tmp_path):
    (tmp_path / "file").touch()
    first, second = (KeptVectors(tmp_path / "file", ToyEncoder()) for _ in range(2))
    np.testing.assert_array_equal(first.get(TEXTS, made), second.get(TEXTS, made))


def test_a_query_compares_with_the_same_as_without(tmp_path):
    encoder = ToyEncoder()
    plain = QueryEncoder(encoder, lambda path, preparation: None)
    keeping = [
        QueryEncoder(encoder, lambda path, preparation: None, KeptVectors(tmp_path, encoder))
        for _ in range(2)
    ]
    for each in keeping:
        np.testing.assert_array_equal(each.kept_mean(TEXTS), plain.mean(TEXTS))
