"""Texts of queries, in their phrasings."""

import numpy as np
import pytest

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.queries import Term
from mmsearch.engine.encode_query import QueryEncoder
from tests.toy import ToyEncoder


@pytest.fixture
def queries():
    return QueryEncoder(ToyEncoder(), lambda path, preparation: pytest.fail("no pictures here"))


def test_several_phrasings_are_one_vector_of_length_1(queries):
    phrased = queries.vectors([Term("a dog")], ["{}", "a photo of {}"])
    assert phrased.shape == (1, ToyEncoder().spec.dim)
    assert np.linalg.norm(phrased) == pytest.approx(1, abs=1e-5)
    mean = queries.mean(["a dog", "a photo of a dog"])
    np.testing.assert_allclose(phrased[0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("prompts", [["a photo"], ["{}", "{} and {}"]])
def test_a_phrasing_has_one_place(queries, prompts):
    with pytest.raises(InvalidQueryError, match="does not have one place for the text"):
        queries.vectors([Term("a dog")], prompts)


@pytest.mark.parametrize("prompts", [[], ()])
def test_there_must_be_a_phrasing(queries, prompts):
    with pytest.raises(InvalidQueryError, match="The query has no prompt"):
        queries.vectors([Term("a dog")], prompts)
