"""Rows that are scanned, or unpacked for a matrix product: the answers are the same."""

import numpy as np
import pytest

from mmsearch.vector_indexes import _rows
from mmsearch.vector_indexes._rows import StoredRows


def unit(count, seed):
    rows = np.random.default_rng(seed).standard_normal((count, 48)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def rows():
    content = unit(20_000, 1).astype(np.float16)
    # Equal ones, in the same block of rows and in another.
    content[[5, 6, 15_000]] = content[5]
    return StoredRows(np.arange(len(content), dtype=np.int64)[::-1] * 2, content)


def test_the_same_pictures_and_scores_however_many_are_asked(rows, monkeypatch):
    queries = np.concatenate([unit(_rows.BATCH, 2), rows.rows[5:6].astype(np.float32)])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    products = []
    product = StoredRows._products

    def counted(self, *given):
        products.append(given)
        return product(self, *given)

    monkeypatch.setattr(StoredRows, "_products", counted)
    together = rows.search(queries, 20, None)
    assert len(products) == 1
    for number, query in enumerate(queries):
        alone = rows.search(query[None], 20, None)
        np.testing.assert_array_equal(alone.ids[0], together.ids[number])
        np.testing.assert_array_equal(alone.scores[0], together.scores[number])
    assert len(products) == 1
