"""Every fusion, held to its seam."""

import numpy as np
import pytest

from mmsearch.core import plugins
from mmsearch.core.vectors import as_unit_vectors, check_unit_vectors

DIM = 16


def vectors(n, seed):
    return as_unit_vectors(np.random.default_rng(seed).standard_normal((n, DIM)).reshape(n, DIM))


@pytest.fixture(params=plugins.names("fusions"))
def fusion(request):
    return plugins.load("fusions", request.param).build()


def test_name_is_the_file_name(fusion):
    assert fusion.name in plugins.names("fusions")


@pytest.mark.parametrize("n", [0, 1, 5])
def test_fused_vectors_are_unit_vectors_as_wide_as_a_query(fusion, n):
    fused = fusion.fuse(vectors(n, 0), [vectors(i % 3, i + 1) for i in range(n)])
    query = fusion.fuse_query(vectors(2, 9))
    assert fused.shape == (n, query.shape[1])
    check_unit_vectors(fused, query.shape[1])
    check_unit_vectors(query, query.shape[1])


def test_a_picture_without_text_scores_as_its_image_vector(fusion):
    images, queries = vectors(6, 1), vectors(4, 2)
    fused = fusion.fuse(images, [vectors(0, 0)] * 6)
    scores = fusion.fuse_query(queries) @ fused.T
    np.testing.assert_allclose(scores, queries @ images.T, atol=1e-6)


def test_the_order_of_texts_does_not_matter(fusion):
    images, texts = vectors(3, 3), [vectors(4, i) for i in range(3)]
    np.testing.assert_allclose(
        fusion.fuse(images, texts), fusion.fuse(images, [t[::-1] for t in texts]), atol=1e-6
    )


def test_inputs_stay_as_they_were(fusion):
    images, texts = vectors(3, 3), [vectors(2, i) for i in range(3)]
    before = images.copy()
    fusion.fuse(images, texts)
    np.testing.assert_array_equal(images, before)
