"""Tiny captioning models as folders of files, taught a caption for each of a few pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FAMILIES = ("blip", "git", "vision-encoder-decoder")

_EDGE_PX = 32
_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_MAX_STEPS = 1000
_MAX_LOSS = 0.02


def make_captioning_model(
    folder: Path, captions: Mapping[str, NDArray[np.uint8]], family: str = "blip"
) -> Path:
    """Write a model that says what it was taught about pictures; return the folder.

    Args:
        folder: Folder to create.
        captions: Picture, uint8 (height, width, 3), by its caption.
        family: One of `FAMILIES`.
    """
    import torch
    from transformers import ViTImageProcessor

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        tokenizer = _make_tokenizer(" ".join(captions).split())
        model = _make_model(family, len(tokenizer))
        size = {"height": _EDGE_PX, "width": _EDGE_PX}
        processor = ViTImageProcessor(size=size)
        pixels = processor(images=[*map(np.array, captions.values())], return_tensors="pt")[
            "pixel_values"
        ]
        ids = tokenizer(list(captions), return_tensors="pt", padding=True)["input_ids"]
        _teach(model, family, pixels, ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _make_tokenizer(words):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = dict.fromkeys([*_SPECIAL_TOKENS.values(), *words])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, _SPECIAL_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL_TOKENS)


def _make_model(family, num_tokens):
    import transformers

    special = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**_SIZES, "image_size": _EDGE_PX, "patch_size": 16}
    text = {**_SIZES, "vocab_size": num_tokens, "max_position_embeddings": 64, **special}
    no_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    if family == "blip":
        config = transformers.BlipConfig(
            text_config={**text, **no_dropout, "sep_token_id": 3, "projection_dim": 32},
            vision_config=vision,
            projection_dim=32,
        )
        model = transformers.BlipForConditionalGeneration(config)
    elif family == "git":
        config = transformers.GitConfig(vision_config=vision, **text, **no_dropout)
        model = transformers.GitForCausalLM(config)
    else:
        model = transformers.VisionEncoderDecoderModel(
            encoder=transformers.ViTModel(transformers.ViTConfig(**vision), False),
            decoder=transformers.BertLMHeadModel(
                transformers.BertConfig(
                    **text, **no_dropout, is_decoder=True, add_cross_attention=True
                )
            ),
        )
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 2
    for name, value in special.items():
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
    return model


def _teach(model, family, pixels, ids):
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    mask = ids != 0
    labels = ids.masked_fill(~mask, -100)
    model.train()
    for _ in range(_MAX_STEPS):
        if family == "vision-encoder-decoder":
            output = model(pixel_values=pixels, labels=labels[:, 1:])
        else:
            output = model(
                pixel_values=pixels, input_ids=ids, attention_mask=mask.long(), labels=labels
            )
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        if output.loss.item() < _MAX_LOSS:
            break
    else:
        raise AssertionError("the model has not learned the captions")
    model.eval()
