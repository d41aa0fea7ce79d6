from unicodedata import category

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mmsearch.encoders._tokenizer import (
    TextTokenizer,
    TokenizerConfig,
    _fix_mojibake,
    build_clip_tokenizer_json,
    clean,
)

FACTS = TokenizerConfig(77, "lower", 0, 49407, False, False)


@pytest.fixture(scope="module")
def theirs():
    import open_clip

    return open_clip.SimpleTokenizer()


@pytest.fixture(scope="module")
def ours(theirs):
    stored = build_clip_tokenizer_json(
        theirs.encoder, list(theirs.bpe_ranks), "<start_of_text>", "<end_of_text>"
    )
    return TextTokenizer(FACTS, stored)


@given(st.text(st.characters(max_codepoint=126)))
@example("plain & simple")
@example("a &lt; b \x1b[31m")
def test_what_is_not_given_to_ftfy_would_not_be_changed_by_it(text):
    import ftfy

    assert _fix_mojibake(text) == ftfy.fix_text(text)


def same(ours, theirs, text):
    assert ours.pad_batch([ours.prepare(text)])[0][0].tolist() == theirs([text])[0].tolist()


@pytest.mark.parametrize(
    "text",
    [
        "a photo of a dog",
        "DON'T they'LL we've 12345 isn't",
        "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m stra\u00dfe \u0130stanbul",
        "\u732b\u306e\u5199\u771f \u0440\u0443\u0441\u0441\u043a\u0438\u0439",
        "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "fish &amp;amp; chips",
        "<start_of_text> inside <end_of_text>",
        "underscore_and-dash/slash\\back",
        "word " * 100,
        "",
        " \t\n ",
    ],
)
def test_clip_tokens_are_those_of_open_clip(ours, theirs, text):
    same(ours, theirs, text)


# Letters that are newer than this Python's Unicode tables are letters to one library and not to
# another.
ASSIGNED = st.characters(exclude_categories=["Cn", "Cs"])


@settings(max_examples=150, deadline=None)
@given(st.text(ASSIGNED, max_size=60))
@example(":\u00d6\u008b")
def test_clip_tokens_of_any_text_are_those_of_open_clip(ours, theirs, text):
    # Mending mojibake can make characters that no table knows: here U+058B.
    assume("Cn" not in {category(char) for char in clean(text, "lower")})
    same(ours, theirs, text)


def test_a_cut_text_still_ends(ours):
    tokens = ours.prepare("word " * 100)
    assert (len(tokens), tokens[-1]) == (77, 49407)
    assert ours.dropped_tokens("word " * 100) == 25


def test_padding_goes_to_the_longest_or_to_the_whole_context(ours):
    batch = [ours.prepare("a"), ours.prepare("a longer text")]
    assert ours.pad_batch(batch)[0].shape == (2, 77)
    config = TokenizerConfig(77, "lower", 5, None, True, True)
    cut = TextTokenizer(config, ours._tokenizer.to_str())
    ids, mask = cut.pad_batch(batch)
    assert ids.shape == mask.shape == (2, 5)
    assert ids[0].tolist()[3:] == [5, 5]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5]


@given(st.text(max_size=40))
def test_cleaning_is_that_of_open_clip(text):
    from open_clip.tokenizer import get_clean_fn

    text = text.encode("utf-8", "replace").decode()
    for how in ("lower", "whitespace", "canonicalize"):
        assert clean(text, how) == get_clean_fn(how)(text)
    assert clean(text, "none") == text


def test_undecodable_names_can_be_tokenised(ours):
    assert len(ours.prepare("caf\udce9")) >= 3
