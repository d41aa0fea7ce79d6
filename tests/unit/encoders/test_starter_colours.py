"""The starter's colour columns: colours of pixels, and colours that a text names."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from mmsearch.encoders.starter import heads
from mmsearch.encoders.starter.colours import COLOUR_WORDS, COLOURS, PictureColours, TextColours

EDGE = 260


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = Tokenizer.from_file(str(heads.tokenizer_path()))
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def text_colours():
    return TextColours(heads.load_vocabulary())


@pytest.fixture(scope="module")
def picture_colours():
    return PictureColours(EDGE)


def uniform(*rgb):
    return torch.tensor(rgb, dtype=torch.uint8).expand(1, EDGE, EDGE, 3).clone()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red car", {"red"}),
        ("A RED CAR", {"red"}),
        ("car", set()),
        ("", set()),
        ("blue sky over a yellow field", {"blue", "yellow"}),
        ("black and white photo", {"black", "white"}),
        ("orange juice", {"orange"}),
        ("a teal door", {"blue"}),
        ("magenta", {"pink", "purple"}),
        ("a crimson scarf and golden hair", {"red", "yellow"}),
        ("bluebells", set()),
        ("a blackbird in a greenhouse", set()),
        ("goldfish", set()),
        ("the white house", set()),
        ("the Red Sea", set()),
        ("a white door of a house", {"white"}),
        ("colourful", set()),
    ],
)
def test_text_names_its_colours(text_colours, tokenizer, text, named):
    ids = torch.tensor([tokenizer.encode(text).ids])
    (columns,) = text_colours(ids).tolist()
    assert {COLOURS[i] for i, value in enumerate(columns) if value} == named
    assert np.linalg.norm(columns) == pytest.approx(1.0 if named else 0.0)


def test_every_colour_word_is_recognised(text_colours, tokenizer):
    for term, words in COLOUR_WORDS.items():
        for word in words.split():
            ids = torch.tensor([tokenizer.encode(f"a {word} thing").ids])
            assert text_colours(ids)[0, COLOURS.index(term)] > 0, word


def test_padding_names_no_colour(text_colours, tokenizer):
    ids = tokenizer.encode("a red car").ids
    padded = torch.tensor([ids + [heads.PAD_TOKEN_ID] * 5])
    torch.testing.assert_close(text_colours(padded), text_colours(torch.tensor([ids])))


@pytest.mark.parametrize(
    ("rgb", "term"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "grey"),
        ((220, 20, 20), "red"),
        ((255, 140, 0), "orange"),
        ((250, 230, 30), "yellow"),
        ((30, 140, 40), "green"),
        ((135, 190, 235), "blue"),
        ((20, 40, 120), "blue"),
        ((120, 30, 150), "purple"),
        ((255, 170, 200), "pink"),
        ((110, 70, 35), "brown"),
    ],
)
def test_uniform_picture_has_its_colour(picture_colours, rgb, term):
    (columns,) = picture_colours(uniform(*rgb))
    assert COLOURS[int(columns.argmax())] == term
    assert float(columns.norm()) == pytest.approx(1.0, abs=1e-5)


def test_colour_near_the_centre_counts_more(picture_colours):
    centre, corner = uniform(255, 255, 255), uniform(255, 255, 255)
    centre[:, 100:160, 100:160] = corner[:, :60, :60] = torch.tensor([220, 20, 20])
    red = COLOURS.index("red")
    assert picture_colours(centre)[0, red] > 1.5 * picture_colours(corner)[0, red] > 0


def test_parts_have_the_colours_of_their_place(picture_colours):
    picture = uniform(255, 255, 255)
    picture[:, :130] = torch.tensor([20, 40, 120])
    parts = picture_colours.parts(picture, 9)
    assert parts.shape == (81, len(COLOURS))
    assert COLOURS[int(parts[0].argmax())] == "blue"
    assert COLOURS[int(parts[80].argmax())] == "white"
    torch.testing.assert_close(parts.norm(dim=1), torch.ones(81))
