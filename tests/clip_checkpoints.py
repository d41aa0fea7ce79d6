"""Local checkpoints with random weights, of real architectures and of a tiny, fast one."""

import json
from pathlib import Path

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}

TINY_SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": TINY["vision_cfg"],
    "text_cfg": {
        "context_length": 64,
        "vocab_size": 600,
        "hf_tokenizer_name": "stand-in/no-such-repository",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}


def save_checkpoint(architecture: str, folder: Path, seed: int = 0) -> Path:
    """Save random weights of an architecture as a .safetensors file; return its path."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, pretrained=None)
    # Larger weights, as in trained models: else a random text tower encodes all texts alike.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(1.5)
    path = folder / f"{architecture}-{seed}.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return path


def tiny_variant(folder: Path, seed: int = 0) -> str:
    """Make a tiny architecture and its checkpoint; return their open_clip variant name."""
    config = add_architecture("tiny-test-clip", TINY, folder)
    return f"{config}@{save_checkpoint('tiny-test-clip', folder, seed)}"


def add_architecture(name: str, model_config: dict, folder: Path) -> Path:
    """Add an architecture to open_clip; return its JSON file."""
    import open_clip

    config = folder / f"{name}.json"
    config.write_text(json.dumps(model_config))
    open_clip.add_model_config(config)
    return config


def tiny_siglip_variant(folder: Path, seed: int = 0) -> str:
    """Make a tiny SigLIP, its checkpoint and its tokenizer; return their variant name."""
    config = add_architecture("tiny-test-siglip", TINY_SIGLIP, folder)
    save_gemma_tokenizer(folder, TINY_SIGLIP["text_cfg"]["vocab_size"])
    return f"{config}@{save_checkpoint('tiny-test-siglip', folder, seed)}"


def save_gemma_tokenizer(folder: Path, vocabulary_size: int) -> None:
    """Save a tokenizer with the rules and special ids of Gemma's, but few words.

    Args:
        folder: Receives tokenizer.json and tokenizer_config.json.
        vocabulary_size: Number of tokens, at least 400.
    """
    special_tokens = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = ["\u2581", *map(chr, (*range(ord("a"), ord("z") + 1), *range(0xE0, 0x100)))]
    tokens = [*special_tokens, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = []
    for word in (
        "\u2581a",
        "\u2581photo",
        "\u2581of",
        "\u2581dog",
        "\u2581red",
        "\u2581word",
        "car",
    ):
        for end in range(1, len(word)):
            if word[: end + 1] not in tokens:
                tokens.append(word[: end + 1])
                merges.append([word[:end], word[end]])
    tokens += [f"<unused{i}>" for i in range(vocabulary_size - len(tokens))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, "special": True, **flags}
            for i, token in enumerate(special_tokens)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<eos>", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
    }
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        **{f"{kind}_token": f"<{kind}>" for kind in ("pad", "eos", "bos", "unk")},
        "padding_side": "right",
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
