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
from tests.property_budget import examples

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
def test_fix_mojibake_ascii_text_matches_ftfy(text):
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
def test_tokenizer_sample_texts_match_open_clip_tokens(ours, theirs, text):
    same(ours, theirs, text)


# The libraries disagree on letters that are newer than the Unicode tables of this Python.
ASSIGNED = st.characters(exclude_categories=["Cn", "Cs"])


@settings(max_examples=examples(150), deadline=None)
@given(st.text(ASSIGNED, max_size=60))
@example(":\u00d6\u008b")
def test_tokenizer_any_text_matches_open_clip_tokens(ours, theirs, text):
    # Fixing mojibake can produce unassigned characters: here U+058B.
    assume("Cn" not in {category(char) for char in clean(text, "lower")})
    same(ours, theirs, text)


def test_tokenizer_truncated_text_keeps_end_token_and_counts_dropped(ours):
    tokens = ours.prepare("word " * 100)
    assert (len(tokens), tokens[-1]) == (77, 49407)
    assert ours.dropped_tokens("word " * 100) == 25


def test_pad_batch_pads_to_context_length_or_longest_text(ours):
    batch = [ours.prepare("a"), ours.prepare("a longer text")]
    assert ours.pad_batch(batch)[0].shape == (2, 77)
    config = TokenizerConfig(77, "lower", 5, None, True, True)
    cut = TextTokenizer(config, ours._tokenizer.to_str())
    ids, mask = cut.pad_batch(batch)
    assert ids.shape == mask.shape == (2, 5)
    assert ids[0].tolist()[3:] == [5, 5]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5]


@given(st.text(max_size=40))
def test_clean_any_text_matches_open_clip(text):
    from open_clip.tokenizer import get_clean_fn

    text = text.encode("utf-8", "replace").decode()
    for how in ("lower", "whitespace", "canonicalize"):
        assert clean(text, how) == get_clean_fn(how)(text)
    assert clean(text, "none") == text


def test_tokenizer_text_with_surrogate_returns_tokens(ours):
    assert len(ours.prepare("caf\udce9")) >= 3
