"""Vectors cached between processes equal those that would be computed again."""

import dataclasses

import numpy as np
import pytest

from mmsearch.search.query_encoder import QueryEncoder, VectorCache
from tests.toy_index import ToyEncoder

TEXTS = ("a photo", "a thing")


def compute(texts):
    return np.full(ToyEncoder().spec.dim, len(texts), dtype=np.float32)


def fail_if_computed(texts):
    pytest.fail("made again")


def test_vector_cache_second_instance_reads_stored_vector(tmp_path):
    first = VectorCache(tmp_path / "kept", ToyEncoder()).get(TEXTS, compute)
    second = VectorCache(tmp_path / "kept", ToyEncoder()).get(TEXTS, fail_if_computed)
    assert second.dtype == np.float32
    np.testing.assert_array_equal(first, second)


def test_vector_cache_other_texts_or_encoder_get_separate_files(tmp_path):
    VectorCache(tmp_path, ToyEncoder()).get(TEXTS, compute)
    VectorCache(tmp_path, ToyEncoder()).get(TEXTS[:1], compute)
    other = ToyEncoder()
    other.spec = dataclasses.replace(other.spec, weights_sha256="f" * 64)
    VectorCache(tmp_path, other).get(TEXTS, compute)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b[:-1] + b"\x01", lambda b: b""])
def test_vector_cache_damaged_file_is_recomputed_once(tmp_path, harm):
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


def test_vector_cache_second_get_uses_memory_after_file_is_deleted(tmp_path):
    VectorCache(tmp_path, ToyEncoder()).get(TEXTS, compute)
    cache = VectorCache(tmp_path, ToyEncoder())
    first = cache.get(TEXTS, fail_if_computed)
    (file,) = tmp_path.iterdir()
    file.unlink()
    np.testing.assert_array_equal(cache.get(TEXTS, fail_if_computed), first)


def test_vector_cache_unusable_folder_computes_in_each_instance(tmp_path):
    (tmp_path / "file").touch()
    first, second = (VectorCache(tmp_path / "file", ToyEncoder()) for _ in range(2))
    np.testing.assert_array_equal(first.get(TEXTS, compute), second.get(TEXTS, compute))


def test_query_encoder_with_vector_cache_returns_same_mean_as_without(tmp_path):
    encoder = ToyEncoder()
    plain = QueryEncoder(encoder, lambda path, preparation: None)
    caching_encoders = [
        QueryEncoder(encoder, lambda path, preparation: None, VectorCache(tmp_path, encoder))
        for _ in range(2)
    ]
    for caching_encoder in caching_encoders:
        np.testing.assert_array_equal(caching_encoder.cached_mean(TEXTS), plain.mean(TEXTS))
