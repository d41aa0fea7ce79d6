"""Encoding of query texts with prompts."""

from collections import OrderedDict

import numpy as np
import pytest

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.query import Term
from mmsearch.search import query_encoder
from mmsearch.search.query_encoder import QueryEncoder
from tests.toy_index import ToyEncoder


@pytest.fixture
def queries():
    return QueryEncoder(ToyEncoder(), lambda path, preparation: pytest.fail("no pictures here"))


def test_query_encoder_several_prompts_return_one_unit_mean_vector(queries):
    vectors = queries.vectors([Term("a dog")], ["{}", "a photo of {}"])
    assert vectors.shape == (1, ToyEncoder().spec.dim)
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)
    mean = queries.mean(["a dog", "a photo of a dog"])
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("prompts", [["a photo"], ["{}", "{} and {}"]])
def test_query_encoder_prompt_without_exactly_one_placeholder_raises_error(queries, prompts):
    with pytest.raises(InvalidQueryError, match=r"must contain {} exactly once"):
        queries.vectors([Term("a dog")], prompts)


@pytest.mark.parametrize("prompts", [[], ()])
def test_query_encoder_without_prompts_raises_invalid_query_error(queries, prompts):
    with pytest.raises(InvalidQueryError, match="The query has no prompt"):
        queries.vectors([Term("a dog")], prompts)


class ConcurrentEncoder(ToyEncoder):
    """While it encodes, another thread requests other texts, which evict the older ones."""

    pending_texts = ()

    def encode(self, kind, batch):
        pending_texts, self.pending_texts = self.pending_texts, ()
        if pending_texts:
            self.queries.ensure_encoded(pending_texts)
        return super().encode(kind, batch)


@pytest.fixture
def full_cache(monkeypatch):
    monkeypatch.setattr(query_encoder, "MAX_CACHED_TEXTS", 2)
    encoder = ConcurrentEncoder()
    encoder.queries = QueryEncoder(encoder, lambda path, preparation: None)
    encoder.queries.ensure_encoded(["a dog", "a cat"])
    encoder.pending_texts = ["a tree", "a boat"]
    return encoder.queries


def test_query_encoder_text_evicted_by_other_thread_is_still_encoded(full_cache, queries):
    texts = ["a dog", "a house", "a dog"]
    np.testing.assert_array_equal(full_cache.mean(texts), queries.mean(texts))


def test_query_encoder_prompt_evicted_at_once_is_still_encoded(full_cache, queries):
    full_cache._text_cache = DroppingCache()
    expected = queries.vectors([Term("a dog")], ["{}"])
    np.testing.assert_array_equal(full_cache.vectors([Term("a dog")], ["{}"]), expected)


class DroppingCache(OrderedDict):
    def update(self, *args):
        """Store nothing, as if another thread evicted every entry at once."""


def test_query_encoder_encodes_each_distinct_text_once():
    encoder = ToyEncoder()
    batches = []
    encode = encoder.encode
    encoder.encode = lambda kind, batch: batches.append(len(batch)) or encode(kind, batch)
    queries = QueryEncoder(encoder, lambda path, preparation: None)
    for _ in range(2):
        queries.mean(["a dog", "a cat", "a dog"])
    assert batches == [2]
