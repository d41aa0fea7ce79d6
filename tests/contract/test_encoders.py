"""Contract tests that run on every encoder and check its vectors."""

import pickle

import numpy as np
import pytest
from PIL import Image

from mmsearch.core import plugins
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.core.vectors import check_unit_vectors
from mmsearch.encoders._adapter import write_adapter

TEXTS = [
    "a red car",
    "a windmill on a hill under a cloudy sky",
    "x",
    "two dogs, one cat & 17 birds",
    "",
    "\u732b caf\u00e9 \U0001f600",
]


@pytest.fixture(scope="module")
def variants(tiny_clip, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapter") / "mine.safetensors"
    variant = tiny_clip.removeprefix("open_clip:")
    base = plugins.load("encoders", "open_clip").build(EncoderOptions(variant, "cpu", cache)).spec
    maps = np.random.default_rng(0).standard_normal((2, 24, base.dim))
    write_adapter(path, base, *maps, text_bias=np.full(24, 0.1))
    return {"starter": "", "open_clip": variant, "adapted": str(path)}


@pytest.fixture(scope="module", params=plugins.names("encoders"))
def plugin(request):
    return request.param, plugins.load("encoders", request.param)


@pytest.fixture(scope="module")
def options(plugin, variants, cache):
    return EncoderOptions(variants[plugin[0]], "cpu", cache, offline=True)


@pytest.fixture(scope="module")
def encoder(plugin, options):
    return plugin[1].build(options)


@pytest.fixture(scope="module")
def pictures(photos):
    found = []
    for path in sorted((photos / "photos").iterdir())[:7]:
        with Image.open(path) as image:
            found.append(np.asarray(image.convert("RGB")))
    return found


def prepared(encoder, kind, items):
    return [encoder.prepare(kind, item) for item in items]


@pytest.fixture(params=list(InputKind))
def batch(request, encoder, pictures):
    items = pictures if request.param == InputKind.IMAGE else TEXTS
    return request.param, prepared(encoder, request.param, items)


def test_encoder_returns_float32_unit_vectors_of_spec_dim(encoder, batch):
    vectors = encoder.encode(*batch)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(batch[1]), encoder.spec.dim)
    check_unit_vectors(vectors, encoder.spec.dim)


def test_encoder_vector_is_independent_of_batch_and_order(encoder, batch):
    kind, items = batch
    together = encoder.encode(kind, items)
    backwards = encoder.encode(kind, items[::-1])[::-1]
    alone = np.concatenate([encoder.encode(kind, [item]) for item in items])
    for other in (backwards, alone):
        assert (1 - np.sum(together * other, axis=1)).max() < 1e-4


def test_encoder_different_items_have_different_vectors(encoder, batch):
    vectors = encoder.encode(*batch)
    likeness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert likeness.max() < 0.99999


@pytest.mark.parametrize("kind", list(InputKind))
def test_encoder_empty_batch_returns_no_vectors(encoder, kind):
    assert encoder.encode(kind, []).shape == (0, encoder.spec.dim)


@pytest.mark.parametrize("released", list(InputKind))
def test_encoder_after_release_returns_same_vectors(encoder, batch, released):
    kind, items = batch
    before = encoder.encode(kind, items)
    encoder.release(released)
    encoder.release(released)
    assert np.array_equal(encoder.encode(kind, items), before)


def test_encoder_long_text_is_truncated_and_dropped_tokens_counted(encoder):
    assert encoder.dropped_tokens("a red car") == 0
    words = "many words " * 400
    dropped = encoder.dropped_tokens(words)
    assert dropped > 300
    tokens = encoder.prepare(InputKind.TEXT, words)
    assert len(tokens) == encoder.spec.context_length
    longer = encoder.prepare(InputKind.TEXT, words + "and more")
    np.testing.assert_array_equal(tokens, longer)


def test_encoder_prepares_pictures_of_any_shape_to_one_shape(encoder):
    shapes = {
        encoder.prepare(InputKind.IMAGE, np.zeros((h, w, 3), dtype=np.uint8)).shape
        for h, w in ((1, 1), (1, 900), (900, 1), (50, 60), (400, 300))
    }
    assert len(shapes) == 1


def test_image_preprocessor_after_pickling_returns_same_pixels(encoder, pictures):
    copy = pickle.loads(pickle.dumps(encoder.image_preprocessor))  # noqa: S301 - our own
    np.testing.assert_array_equal(copy(pictures[0]), encoder.prepare(InputKind.IMAGE, pictures[0]))
    assert copy.edge_px == encoder.image_preprocessor.edge_px > 0


def test_batch_preprocessor_gives_nearly_same_vectors_as_prepare(encoder, pictures):
    bulk = pickle.loads(pickle.dumps(encoder.batch_preprocessor))  # noqa: S301 - our own
    for pixels in pictures:
        alone, many = encoder.prepare(InputKind.IMAGE, pixels), bulk(pixels)
        assert many.shape == alone.shape
        one, other = (encoder.encode(InputKind.IMAGE, [prepared])[0] for prepared in (alone, many))
        assert one @ other > 0.999


def test_encoder_built_again_has_same_spec_and_vectors_without_messages(plugin, options, encoder):
    said = []
    again = plugin[1].build(
        EncoderOptions(options.variant, "cpu", options.cache, offline=True, on_message=said.append)
    )
    assert again.spec == encoder.spec
    assert said == []
    batch = prepared(encoder, InputKind.TEXT, TEXTS)
    np.testing.assert_allclose(
        again.encode(InputKind.TEXT, batch), encoder.encode(InputKind.TEXT, batch), atol=1e-5
    )


def test_encoder_reports_device_and_positive_batch_size(encoder):
    for kind in InputKind:
        assert "cpu" in encoder.device(kind)
    assert encoder.batch_size >= 1


def test_encoder_plugin_lists_models_with_name_and_summary(plugin, options, encoder):
    found = plugin[1].models(options)
    assert found
    assert all(model.name.startswith(plugin[0]) and model.summary for model in found)


def test_encoder_token_vectors_are_unit_vectors_independent_of_batch(encoder, pictures):
    images = prepared(encoder, InputKind.IMAGE, pictures[:2])
    texts = prepared(encoder, InputKind.TEXT, TEXTS)
    for kind, batch in ((InputKind.IMAGE, images), (InputKind.TEXT, texts)):
        token_vectors = encoder.token_vectors(kind, batch)
        assert len(token_vectors) == len(batch)
        for own, item in zip(token_vectors, batch, strict=True):
            check_unit_vectors(own, encoder.spec.dim)
            (alone,) = encoder.token_vectors(kind, [item])
            np.testing.assert_allclose(alone, own, atol=1e-4)
    assert len({len(own) for own in encoder.token_vectors(InputKind.IMAGE, images)}) == 1
    tokens = [len(own) for own in encoder.token_vectors(InputKind.TEXT, texts)]
    assert tokens[1] > tokens[0] >= 3 > tokens[2] >= 1
    assert encoder.token_vectors(InputKind.TEXT, []) == []


def test_encoder_prompts_each_have_exactly_one_placeholder(encoder):
    assert encoder.prompts
    assert all(prompt.count("{}") == 1 for prompt in encoder.prompts)
