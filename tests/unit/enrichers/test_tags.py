"""Tags: the vocabulary, and the words that a picture gets."""

import numpy as np
import pytest

from mmsearch.core.derived import EnricherOptions
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.core.types import EncoderSpec, Text
from mmsearch.enrichers import tags

ENCODER = EncoderSpec("toy", 3, "a" * 64, {}, 1, 16)


def options(path=None, probabilities=None):
    return EnricherOptions(
        vocabulary=path,
        encode_texts=lambda words: np.zeros((len(words), 3), np.float32),
        probabilities=probabilities or (lambda images, texts: np.zeros((len(images), len(texts)))),
    )


@pytest.fixture
def vocabulary(tmp_path):
    def write(content):
        path = tmp_path / "tags.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_vocabulary_has_each_line_once_without_comments(vocabulary):
    path = vocabulary("\ufeff# my tags\ndog\n\n  red   car \ndog\nÄpfel\n")
    assert tags.read_vocabulary(path) == ("dog", "red car", "Äpfel")


def test_built_in_vocabulary_has_hundreds_of_words():
    words = tags.read_vocabulary(None)
    assert len(words) == len(set(words)) > 300
    assert {"dog", "beach", "bicycle"} <= set(words)


@pytest.mark.parametrize("content", ["", "# nothing\n", "a;b", "x" * 101])
def test_vocabulary_that_cannot_be_used_is_refused(vocabulary, content):
    with pytest.raises(UsageError, match="vocabulary"):
        tags.read_vocabulary(vocabulary(content))


def test_vocabulary_with_too_many_tags_is_refused(vocabulary, monkeypatch):
    monkeypatch.setattr(tags, "MAX_WORDS", 2)
    with pytest.raises(UsageError, match="has 3 tags"):
        tags.read_vocabulary(vocabulary("a\nb\nc"))


def test_vocabulary_that_is_missing_or_no_text_is_refused(vocabulary, tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        tags.read_vocabulary(tmp_path / "none.txt")
    with pytest.raises(SourceError, match="not text in UTF-8"):
        tags.read_vocabulary(vocabulary(b"\xff\xfe\x00dog"))


def test_fingerprint_changes_with_the_words_their_order_and_the_encoder(vocabulary, tmp_path):
    path = vocabulary("dog\ncat")
    first = tags.fingerprint(options(path), ENCODER)
    assert tags.fingerprint(options(vocabulary("# same\ndog\ncat\n")), ENCODER) == first
    assert tags.fingerprint(options(vocabulary("cat\ndog")), ENCODER) != first
    other = EncoderSpec("toy", 3, "b" * 64, {}, 1, 16)
    assert tags.fingerprint(options(vocabulary("dog\ncat")), other) != first


def test_pictures_get_the_most_probable_words_above_the_minimum(vocabulary):
    words = "abcdefgh"
    rows = np.array([[0.2, 0.9, 0.2, 0.14, 0.5, 0.6, 0.7, 0.3], [0.1] * 8])
    path = vocabulary("\n".join(words))
    tagger = tags.build(options(path, lambda images, texts: rows))
    first, second = tagger.describe(np.zeros((2, 3), np.float32))
    assert [text.text for text in first] == ["b", "g", "f", "e", "h"]
    assert first[0] == Text("tag", "b", None, "tags", None, 0.9)
    assert second == ()


def test_equal_probabilities_keep_the_order_of_the_vocabulary(vocabulary):
    path = vocabulary("c\na\nb")
    tagger = tags.build(options(path, lambda images, texts: np.full((1, 3), 0.5)))
    (words,) = tagger.describe(np.zeros((1, 3), np.float32))
    assert [text.text for text in words] == ["c", "a", "b"]
