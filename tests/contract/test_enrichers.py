"""Contract of the enrichers: each is found by its name and judged by what it returns."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmsearch.core.derived import EnricherInput, EnricherOptions
from mmsearch.core.types import DERIVED_SOURCES, EncoderSpec
from mmsearch.factories.enrichers import list_enrichers, load_enricher

ENCODER = EncoderSpec("toy", 3, "a" * 64, {}, 1, 16)
WORDS = ("dog", "ship", "tree")


def options(**values):
    """Options of an index whose three columns are the three words."""
    return EnricherOptions(
        encode_texts=lambda texts: np.eye(3, dtype=np.float32)[[WORDS.index(t) for t in texts]],
        probabilities=lambda images, texts: (images @ texts.T).astype(np.float64),
        **values,
    )


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    return path


@pytest.fixture(params=list_enrichers())
def plugin(request):
    return request.param, load_enricher(request.param)


def inputs(reads):
    """Return three inputs with something to find, and one with nothing."""
    if reads is EnricherInput.VECTORS:
        return [*np.eye(3, dtype=np.float32)], np.zeros(3, np.float32)
    return [draw(word) for word in WORDS], np.full((200, 300, 3), 200, np.uint8)


def draw(word):
    picture = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(picture).text((60, 60), word, fill="black", font=ImageFont.load_default(60))
    return np.asarray(picture)


def run(module, one_or_more, **values):
    built = module.build(options(**values))
    if module.READS is EnricherInput.VECTORS:
        return built.describe(np.stack(one_or_more))
    return [built.read(pixels) for pixels in one_or_more]


def needs_input(module):
    if module.READS not in (EnricherInput.VECTORS, EnricherInput.PIXELS):
        pytest.skip(f"there is no input of the kind {module.READS} here")


def test_name_is_a_source_of_texts_and_kinds_are_named(plugin):
    name, module = plugin
    assert name in set(DERIVED_SOURCES)
    assert module.KINDS
    assert isinstance(module.KINDS, frozenset)


def test_fingerprint_is_stable_and_short(plugin, vocabulary):
    name, module = plugin
    first = module.fingerprint(options(vocabulary=vocabulary), ENCODER)
    assert module.fingerprint(options(vocabulary=vocabulary), ENCODER) == first
    assert first.startswith(name)
    assert len(first) < 100


def test_fingerprint_of_vectors_changes_with_the_encoder(plugin, vocabulary):
    _, module = plugin
    other = EncoderSpec("toy", 3, "b" * 64, {}, 1, 16)
    known = {module.fingerprint(options(vocabulary=vocabulary), spec) for spec in (ENCODER, other)}
    assert len(known) == (2 if module.READS is EnricherInput.VECTORS else 1)


def test_texts_say_what_is_there(plugin, vocabulary):
    name, module = plugin
    needs_input(module)
    found, _ = inputs(module.READS)
    for word, texts in zip(WORDS, run(module, found, vocabulary=vocabulary), strict=True):
        assert [text.text for text in texts] == [word]
        assert all(text.source == name and 0 < text.confidence <= 1 for text in texts)


def test_empty_input_has_no_text(plugin, vocabulary):
    _, module = plugin
    needs_input(module)
    _, empty = inputs(module.READS)
    assert run(module, [empty], vocabulary=vocabulary) == [()]


def test_texts_do_not_depend_on_what_else_is_read(plugin, vocabulary):
    _, module = plugin
    needs_input(module)
    found, empty = inputs(module.READS)
    together = run(module, [*found, empty], vocabulary=vocabulary)
    alone = [run(module, [one], vocabulary=vocabulary)[0] for one in (*found, empty)]
    backwards = run(module, [empty, *found[::-1]], vocabulary=vocabulary)[::-1]
    assert together == alone == backwards
