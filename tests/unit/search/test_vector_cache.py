"""What is kept between processes is what would be made anew."""

import dataclasses

import numpy as np
import pytest

from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.vector_cache import VectorCache
from tests.toy_index import ToyEncoder

TEXTS = ("a photo", "a thing")


def compute(texts):
    return np.full(ToyEncoder().spec.dim, len(texts), dtype=np.float32)


def fail_if_computed(texts):
    pytest.fail("made again")


def test_it_is_made_once(tmp_path):
    first = VectorCache(tmp_path / "kept", ToyEncoder()).get(TEXTS, compute)
    second = VectorCache(tmp_path / "kept", ToyEncoder()).get(TEXTS, fail_if_computed)
    assert second.dtype == np.float32
    np.testing.assert_array_equal(first, second)


def test_other_texts_and_encoders_have_others(tmp_path):
    VectorCache(tmp_path, ToyEncoder()).get(TEXTS, compute)
    VectorCache(tmp_path, ToyEncoder()).get(TEXTS[:1], compute)
    other = ToyEncoder()
    other.spec = dataclasses.replace(other.spec, weights_sha256="f" * 64)
    VectorCache(tmp_path, other).get(TEXTS, compute)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b[:-1] + b"\x01", lambda b: b""])
def test_what_is_damaged_is_made_again(tmp_path, harm):
    original = VectorCache(tmp_path, ToyEncoder()).get(TEXTS, compute)
    (file,) = tmp_path.iterdir()
    file.write_bytes(harm(file.read_bytes()))
    calls = []

    def counting_compute(texts):
        calls.append(texts)
        return compute(texts)

    cache = VectorCache(tmp_path, ToyEncoder())
    np.testing.assert_array_equal(cache.get(TEXTS, counting_compute), original)
    assert len(calls) == 1
    np.testing.assert_array_equal(
        VectorCache(tmp_path, ToyEncoder()).get(TEXTS, fail_if_computed), original
    )


def test_it_is_read_once(tmp_path):
    VectorCache(tmp_path, ToyEncoder()).get(TEXTS, compute)
    cache = VectorCache(tmp_path, ToyEncoder())
    first = cache.get(TEXTS, fail_if_computed)
    (file,) = tmp_path.iterdir()
    file.unlink()
    np.testing.assert_array_equal(cache.get(TEXTS, fail_if_computed), first)


def test_where_nothing_can_be_kept_it_is_made_by_each(tmp_path):
    (tmp_path / "file").touch()
    first, second = (VectorCache(tmp_path / "file", ToyEncoder()) for _ in range(2))
    np.testing.assert_array_equal(first.get(TEXTS, compute), second.get(TEXTS, compute))


def test_a_query_compares_with_the_same_as_without(tmp_path):
    encoder = ToyEncoder()
    plain = QueryEncoder(encoder, lambda path, preparation: None)
    caching_encoders = [
        QueryEncoder(encoder, lambda path, preparation: None, VectorCache(tmp_path, encoder))
        for _ in range(2)
    ]
    for caching_encoder in caching_encoders:
        np.testing.assert_array_equal(caching_encoder.cached_mean(TEXTS), plain.mean(TEXTS))
