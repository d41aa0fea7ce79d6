"""Read a tokenizer from the files of a model repository, without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

TOKENIZER_FILE: Final = "tokenizer.json"

TOKENIZER_CONFIG_FILE: Final = "tokenizer_config.json"

_SUPPORTED_OPTIONS: Final = {"clean", "strip_sep_token"}


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer read from files.

    Attributes:
        json: Definition of the tokenizer for the `tokenizers` library.
        pad_id: Id of the padding token.
        end_id: Id of the special token that ends every text, or None without one.
        separator_id: Id of the separator token, or None without one.
    """

    json: str
    pad_id: int
    end_id: int | None
    separator_id: int | None


def is_plain_tokenizer(text_config: Mapping[str, Any]) -> bool:
    """Return True if `read_tokenizer` can replace open_clip's tokenizer of an architecture.

    Args:
        text_config: The key ``text_cfg`` of the architecture.
    """
    return (
        bool(text_config.get("hf_tokenizer_name"))
        and not text_config.get("hf_model_name")
        and not text_config.get("tokenizer_mode")
        and set(text_config.get("tokenizer_kwargs", {})) <= _SUPPORTED_OPTIONS
    )


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """Return the tokenizer of the files tokenizer.json and tokenizer_config.json in a folder.

    If the second file says which special tokens surround a text, it overrides the first one.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is damaged, or the padding token is unknown.
    """
    definition = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(definition)
    # The library raises plain exceptions.
    except Exception as error:
        raise ValueError(f"{folder / TOKENIZER_FILE}: {error}") from error
    config = json.loads((folder / TOKENIZER_CONFIG_FILE).read_bytes())
    ids = {
        kind: tokenizer.token_to_id(token)
        for kind in ("pad", "bos", "eos", "sep")
        if (token := _token_text(config.get(f"{kind}_token"))) is not None
    }
    pad_id = ids.get("pad")
    if pad_id is None:
        raise ValueError(f"{folder / TOKENIZER_CONFIG_FILE} names no padding token.")
    if "add_bos_token" in config and "add_eos_token" in config:
        start, end = (
            _token_text(config.get(f"{kind}_token")) if config.get(f"add_{kind}_token") else None
            for kind in ("bos", "eos")
        )
        tokenizer.post_processor = TemplateProcessing(
            single=[token for token in (start, "$A", end) if token],
            special_tokens=[
                (token, ids[kind]) for token, kind in ((start, "bos"), (end, "eos")) if token
            ],
        )
    added_tokens = tokenizer.get_added_tokens_decoder()
    last = tokenizer.encode("a").ids[-1]
    end_id = last if last in added_tokens and added_tokens[last].special else None
    return TokenizerFiles(tokenizer.to_str(), pad_id, end_id, ids.get("sep"))


def _token_text(token: Any) -> str | None:
    """Return the text of a token, which is stored as a string or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
