"""Tokenize texts without torch, open_clip or transformers."""

from __future__ import annotations

import html
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mmsearch.core.types import ModelInput

TOKEN_CACHE_SIZE = 256
"""Number of texts in the cache of token ids."""

_WHITESPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class TokenizerConfig:
    """Settings that turn a text into the input of a text tower.

    Attributes:
        context_length: Maximum number of tokens the tower reads, including special tokens.
        clean: Text cleaning before tokenization: ``none``, ``whitespace``, ``lower`` or
            ``canonicalize``, like open_clip's cleaning functions of these names.
        pad_id: Id of the padding token.
        end_id: Id of the token that replaces the last one of a truncated text; None if truncated
            texts need no end token.
        pads_to_longest: True if padding does not change the tower's vectors, so that a batch is
            padded only to its longest text. False for SigLIP: its tower attends to the padding and
            returns the vector of the last position, so every text is padded to the context length,
            as in training. Without it the vectors are wrong and no error says so.
        takes_mask: True if the tower takes an attention mask, 1 for real tokens, as second input.
        stripped_id: Id of a token that is replaced by 0; None for tokenizers that keep all.
    """

    context_length: int
    clean: str
    pad_id: int
    end_id: int | None
    pads_to_longest: bool
    takes_mask: bool
    stripped_id: int | None = None


class TextTokenizer:
    """Tokenises and pads texts for one tower."""

    def __init__(self, config: TokenizerConfig, tokenizer_json: str) -> None:
        self._config = config
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # A query's text is tokenised twice: in `prepare` and in `dropped_tokens`.
        self._cached_ids = lru_cache(TOKEN_CACHE_SIZE)(self._tokenize)

    @classmethod
    def from_file(cls, config: TokenizerConfig, path: Path) -> Self:
        """Return a tokenizer that uses the tokenizer.json at ``path``."""
        return cls(config, path.read_text(encoding="utf-8"))

    def prepare(self, text: str) -> ModelInput:
        """Return a text's token ids, int64 (t,), truncated to the context length."""
        ids = list(self._cached_ids(text))
        config = self._config
        if len(ids) > config.context_length:
            ids = ids[: config.context_length]
            if config.end_id is not None:
                ids[-1] = config.end_id
        prepared = np.array(ids, dtype=np.int64)
        if config.stripped_id is not None:
            prepared[prepared == config.stripped_id] = 0
        return prepared

    def dropped_tokens(self, text: str) -> int:
        """Return the number of tokens beyond the context length."""
        return max(0, len(self._cached_ids(text)) - self._config.context_length)

    def pad_batch(self, batch: Sequence[ModelInput]) -> list[NDArray[np.int64]]:
        """Pad the token ids of n texts and return the tower's inputs, each int64 (n, t)."""
        longest = max((len(ids) for ids in batch), default=1)
        width = longest if self._config.pads_to_longest else self._config.context_length
        ids = np.full((len(batch), width), self._config.pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return [ids, mask] if self._config.takes_mask else [ids]

    def _tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(clean(text, self._config.clean)).ids)


def clean(text: str, mode: str) -> str:
    """Clean a text as open_clip does before tokenising it.

    Args:
        text: The text; it may contain lone surrogates.
        mode: See `TokenizerConfig.clean`.
    """
    # Tokenizers reject lone surrogates, which stand for undecodable bytes in file names.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if mode == "none":
        return text
    text = html.unescape(html.unescape(_fix_mojibake(text))).strip()
    if mode == "canonicalize":
        # SigLIP's cleaning removes punctuation and case (https://arxiv.org/abs/2303.15343).
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
    text = _WHITESPACE.sub(" ", text).strip()
    return text.lower() if mode == "lower" else text


def _fix_mojibake(text: str) -> str:
    """Return the result of ``ftfy.fix_text``."""
    # ftfy does not change such texts, and importing it takes as long as encoding ten texts.
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy  # noqa: PLC0415

    fixed: str = ftfy.fix_text(text)
    return fixed


def build_clip_tokenizer_json(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], start: str, end: str
) -> str:
    """Return CLIP's byte-pair encoding in the format of tokenizer.json.

    Args:
        vocabulary: Token ids by token; a token at the end of a word ends in ``</w>``.
        merges: Pairs of tokens to merge, highest priority first.
        start: Token that is inserted before a text.
        end: Token that is appended to a text.
    """
    special_tokens_json = [
        {
            "id": vocabulary[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in (start, end)
    ]
    word_pattern = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": special_tokens_json,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": f"(?i){word_pattern}"},
                        "behavior": "Removed",
                        "invert": True,
                    },
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": False,
                        "trim_offsets": True,
                        "use_regex": False,
                    },
                ],
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": start, "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": end, "type_id": 0}},
                ],
                "pair": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {
                    token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]}
                    for token in (start, end)
                },
            },
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "</w>",
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": dict(vocabulary),
                "merges": [list(pair) for pair in merges],
            },
        }
    )
