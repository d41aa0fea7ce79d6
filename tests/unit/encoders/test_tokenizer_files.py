"""Tokenizers that are read from the files of a repository, compared with open_clip's."""

import json

import pytest

from mmsearch.encoders._tokenizer import TextTokenizer, TokenizerConfig
from mmsearch.encoders._tokenizer_files import is_plain_tokenizer, read_tokenizer
from tests.clip_checkpoints import save_gemma_tokenizer

HARD_TEXTS = [
    "a photo of a dog",
    "A RED car, isn't it? they'll say: 1234!",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m stra\u00dfe \u0130stanbul",
    "ein Hund am Strand \u732b\u306e\u5199\u771f \u0440\u0443\u0441\u0441\u043a\u0438\u0439",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "fish &amp;amp; chips <b>bold</b>",
    "<eos> in <bos> a text <pad> <unk>",
    "snake_case, dash-case; don\u2019t \u201cquote\u201d",
    "\u2581 mark of a space",
    "word " * 100,
    "x" * 300,
    "",
    " \t\n ",
]


@pytest.fixture
def folder(tmp_path):
    save_gemma_tokenizer(tmp_path, 400)
    return tmp_path


def change_config(folder, **changes):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read_ids(folder, text):
    files = read_tokenizer(folder)
    config = TokenizerConfig(
        64, "canonicalize", files.pad_id, files.end_id, pads_to_longest=False, takes_mask=False
    )
    tokenizer = TextTokenizer(config, files.json)
    return tokenizer.pad_batch([tokenizer.prepare(text)])[0][0].tolist()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    from open_clip.tokenizer import HFTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_gemma_tokenizer(folder, 400)
    return HFTokenizer(str(folder), context_length=64, clean="canonicalize")


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_tokenizer_files_hard_texts_match_open_clip_tokens(folder, theirs, text):
    assert read_ids(folder, text) == theirs([text])[0].tolist()


def test_tokenizer_files_short_text_is_padded_to_context_length_after_end_token(folder):
    assert read_ids(folder, "A dog!") == read_ids(folder, "a dog")
    ids = read_ids(folder, "a dog")
    assert ids[2:] == [1] + [0] * 61
    assert read_ids(folder, "dog " * 200)[-1] == 1


@pytest.mark.parametrize(
    ("flags", "first", "end_id"),
    [
        ({"add_bos_token": True, "add_eos_token": True}, 2, 1),
        ({"add_bos_token": True, "add_eos_token": False}, 2, None),
        ({"add_bos_token": False, "add_eos_token": False}, None, None),
    ],
)
def test_tokenizer_files_flags_override_special_tokens_of_definition(folder, flags, first, end_id):
    plain = read_ids(folder, "dog")
    change_config(folder, **flags)
    assert read_tokenizer(folder).end_id == end_id
    ids = read_ids(folder, "dog")
    assert ids[0] == (plain[0] if first is None else first)
    assert (1 in ids) == (end_id is not None)


def test_tokenizer_files_token_stored_as_object_is_read(folder):
    tokens = {"pad_token": {"content": "<unk>", "special": True}, "sep_token": "<bos>"}
    change_config(folder, **tokens)
    files = read_tokenizer(folder)
    assert (files.pad_id, files.separator_id) == (3, 2)


def test_tokenizer_files_without_padding_token_are_rejected(folder):
    for pad_token in (None, "<no such token>"):
        change_config(folder, pad_token=pad_token)
        with pytest.raises(ValueError, match="names no padding token"):
            read_tokenizer(folder)


def test_tokenizer_files_damaged_definition_is_a_value_error(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:1000])
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        read_tokenizer(folder)


def test_separator_of_clipa_is_replaced_by_zero(folder):
    from open_clip.tokenizer import HFTokenizer

    tokens = {"sep_token": "<eos>"}
    change_config(folder, **tokens)
    theirs = HFTokenizer(str(folder), context_length=16, clean="lower", strip_sep_token=True)
    files = read_tokenizer(folder)
    config = TokenizerConfig(16, "lower", 0, files.end_id, False, False, files.separator_id)
    ours = TextTokenizer(config, files.json)
    for text in ("a dog", "dog " * 30):
        ids = ours.pad_batch([ours.prepare(text)])[0][0].tolist()
        assert 1 not in ids
        assert ids == theirs([text])[0].tolist()


@pytest.mark.parametrize(
    ("text_config", "is_plain"),
    [
        ({}, False),
        ({"hf_tokenizer_name": "x"}, True),
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "lower"}}, True),
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"language": "deu_Latn"}}, False),
        ({"hf_tokenizer_name": "x", "tokenizer_mode": "clips"}, False),
        ({"hf_tokenizer_name": "x", "hf_model_name": "y"}, False),
    ],
)
def test_tokenizers_with_rules_of_their_own_are_not_plain(text_config, is_plain):
    assert is_plain_tokenizer(text_config) == is_plain
