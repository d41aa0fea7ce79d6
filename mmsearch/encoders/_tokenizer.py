"""Words -> token ids, without torch, open_clip or transformers."""

from __future__ import annotations

import html
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mmsearch.core.types import ModelInput

TOKEN_CACHE_SIZE = 256
"""Texts whose tokens are kept."""

_WHITESPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class TokenizerConfig:
    """How a text becomes the input of a text tower.

    Attributes:
        context_length: Tokens that the tower reads, special ones counted.
        clean: What is done to the text first: ``none``, ``whitespace``, ``lower`` or
            ``canonicalize``, as open_clip's cleaning functions of these names.
        pad_id: Fills a batch.
        end_id: Closes a text that was cut; None if the cut leaves nothing to close.
        pads_to_longest: The tower gives the same vector whatever padding follows, so a batch is
            padded to its longest text only.
        takes_mask: The tower wants to know which tokens are real.
    """

    context_length: int
    clean: str
    pad_id: int
    end_id: int | None
    pads_to_longest: bool
    takes_mask: bool

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The facts that were stored."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class TextTokenizer:
    """Tokenises and pads for one tower."""

    def __init__(self, config: TokenizerConfig, tokenizer_json: str) -> None:
        self._config = config
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # A query's text is prepared, and then asked how much of it was read.
        self._cached_ids = lru_cache(TOKEN_CACHE_SIZE)(self._tokenize)

    @classmethod
    def from_file(cls, config: TokenizerConfig, path: Path) -> Self:
        """With the tokenizer.json of that path."""
        return cls(config, path.read_text(encoding="utf-8"))

    def prepare(self, text: str) -> ModelInput:
        """A text -> int64 (t,) token ids, t at most the context length."""
        ids = list(self._cached_ids(text))
        config = self._config
        if len(ids) > config.context_length:
            ids = ids[: config.context_length]
            if config.end_id is not None:
                ids[-1] = config.end_id
        return np.array(ids, dtype=np.int64)

    def dropped_tokens(self, text: str) -> int:
        """Tokens beyond the context length."""
        return max(0, len(self._cached_ids(text)) - self._config.context_length)

    def pad_batch(self, batch: Sequence[ModelInput]) -> list[NDArray[np.int64]]:
        """Token ids of n texts -> the tower's inputs, each int64 (n, t)."""
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
    """A text as open_clip cleans it before it is tokenised.

    Args:
        text: Anything.
        mode: See `TokenizerConfig.clean`.
    """
    # A surrogate, as in a file name of undecodable bytes, is no text to any tokenizer.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if mode == "none":
        return text
    text = html.unescape(html.unescape(_fix_mojibake(text))).strip()
    if mode == "canonicalize":
        # SigLIP's: no punctuation, lower case (https://arxiv.org/abs/2303.15343).
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
    text = _WHITESPACE.sub(" ", text).strip()
    return text.lower() if mode == "lower" else text


def _fix_mojibake(text: str) -> str:
    """As ``ftfy.fix_text``."""
    # It leaves such a text as it is, and its import takes as long as encoding ten texts.
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy  # noqa: PLC0415

    fixed: str = ftfy.fix_text(text)
    return fixed


def build_clip_tokenizer_json(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], start: str, end: str
) -> str:
    """CLIP's byte-pair encoding as a tokenizer.json.

    Args:
        vocabulary: Token -> id; a token that ends a word ends in ``</w>``.
        merges: Pairs, best first.
        start: The token before a text.
        end: The token after a text.
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
