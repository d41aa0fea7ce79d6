"""Contract tests that run on every fusion."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core import plugins
from mmsearch.core.errors import UsageError
from mmsearch.core.types import CROSS_ATTENTION, FusionSpec, TextVectors
from mmsearch.core.vectors import as_unit_vectors, check_unit_vectors

DIM = 16
KINDS = ("caption", "keywords", "title", CROSS_ATTENTION)


def vectors(n, seed):
    return as_unit_vectors(np.random.default_rng(seed).standard_normal((n, DIM)).reshape(n, DIM))


def texts(n, seed, kind="caption"):
    return TextVectors((kind,) * n, vectors(n, seed))


@pytest.fixture(params=plugins.names("fusions"))
def fusion(request):
    return plugins.load("fusions", request.param).build(FusionSpec(request.param, 0.4))


@st.composite
def cases(draw):
    """Draw a fusion with any weights, pictures, and any texts for each picture."""
    weight = st.floats(0, 1)
    spec = FusionSpec(
        draw(st.sampled_from(plugins.names("fusions"))),
        draw(weight),
        draw(st.dictionaries(st.sampled_from(KINDS), st.floats(0, 5))),
    )
    n = draw(st.integers(0, 5))
    seed = draw(st.integers(0, 99))
    images = vectors(n, seed)
    picture_texts = []
    for row in range(n):
        kinds = draw(st.lists(st.sampled_from(KINDS), max_size=5))
        rows = vectors(len(kinds), seed + row + 1)
        if draw(st.booleans()):  # texts that contradict the picture exactly
            rows = -np.repeat(images[row : row + 1], len(kinds), axis=0)
        picture_texts.append(TextVectors(tuple(kinds), rows))
    return plugins.load("fusions", spec.name).build(spec), images, picture_texts


def test_fusion_spec_name_is_plugin_name(fusion):
    assert fusion.spec.name in plugins.names("fusions")


@given(cases())
def test_fusion_vectors_are_unit_vectors_of_query_width(case):
    fusion, images, picture_texts = case
    fused = fusion.fuse(images, picture_texts)
    query = fusion.fuse_query(vectors(2, 9))
    assert fused.dtype == np.float32
    assert fused.shape == (len(images), query.shape[1])
    check_unit_vectors(fused, query.shape[1])
    check_unit_vectors(query, query.shape[1])


@given(cases())
def test_fusion_picture_without_text_scores_as_its_image_vector(case):
    fusion, images, _ = case
    queries = vectors(4, 2)
    fused = fusion.fuse(images, [texts(0, 0)] * len(images))
    scores = fusion.fuse_query(queries) @ fused.T
    np.testing.assert_allclose(scores, queries @ images.T, atol=1e-6)
    if fused.shape == images.shape:
        np.testing.assert_array_equal(fused, images)


@given(cases(), st.randoms(use_true_random=False))
def test_fusion_result_is_independent_of_text_order(case, random):
    fusion, images, picture_texts = case
    shuffled = []
    for entry in picture_texts:
        # A picture has at most one attended vector; the other texts can be in any order.
        order = [i for i, kind in enumerate(entry.kinds) if kind != CROSS_ATTENTION]
        random.shuffle(order)
        shuffled.append(TextVectors(tuple(entry.kinds[i] for i in order), entry.vectors[order]))
    ordered = [
        TextVectors(tuple(entry.kinds[i] for i in sorted(keep)), entry.vectors[sorted(keep)])
        for entry in picture_texts
        for keep in [[i for i, kind in enumerate(entry.kinds) if kind != CROSS_ATTENTION]]
    ]
    np.testing.assert_allclose(
        fusion.fuse(images, ordered), fusion.fuse(images, shuffled), atol=1e-6
    )


def test_fusion_repeated_text_counts_once(fusion):
    images, one = vectors(1, 3), texts(1, 4)
    many = TextVectors(one.kinds * 10_000, np.repeat(one.vectors, 10_000, axis=0))
    np.testing.assert_allclose(fusion.fuse(images, [many]), fusion.fuse(images, [one]), atol=1e-5)


def test_fusion_leaves_image_vectors_unchanged(fusion):
    images, picture_texts = vectors(3, 3), [texts(2, i) for i in range(3)]
    before = images.copy()
    fusion.fuse(images, picture_texts)
    np.testing.assert_array_equal(images, before)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_cross_attend_returns_unit_vector_independent_of_token_order(patches, tokens, seed):
    for name in plugins.names("fusions"):
        fusion = plugins.load("fusions", name).build(FusionSpec(name))
        if fusion.cross_attend is not None:
            inputs = vectors(patches, seed), vectors(tokens, seed + 1)
            attended = fusion.cross_attend(*inputs)
            check_unit_vectors(attended, DIM)
            assert fusion.cross_attend(inputs[0], -inputs[0]).shape == (1, DIM)
            np.testing.assert_allclose(
                fusion.cross_attend(inputs[0][::-1], inputs[1][::-1]), attended, atol=1e-6
            )


@pytest.mark.parametrize("name", plugins.names("fusions"))
@pytest.mark.parametrize(
    "spec",
    [
        {"text_weight": 1.1},
        {"text_weight": -0.1},
        {"text_weight": math.nan},
        {"kind_weights": {"title": -1.0}},
        {"kind_weights": {"title": math.inf}},
    ],
)
def test_fusion_weight_out_of_range_raises_usage_error(name, spec):
    with pytest.raises(UsageError):
        plugins.load("fusions", name).build(FusionSpec(name, **spec))


def test_fusion_matching_text_raises_score_of_picture():
    images, query = vectors(1, 3), vectors(1, 4)
    picture_texts = [TextVectors(("caption", CROSS_ATTENTION), np.repeat(query, 2, axis=0))]
    for name in plugins.names("fusions"):
        fusion = plugins.load("fusions", name).build(FusionSpec(name, 0.5))
        gain = (
            fusion.fuse_query(query) @ fusion.fuse(images, picture_texts).T - query @ images.T
        ).item()
        assert gain > 0.2 if name != "image" else gain == 0
