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
    import open_clip

    config = folder / "tiny-test-clip.json"
    config.write_text(json.dumps(TINY))
    open_clip.add_model_config(config)
    return f"{config}@{save_checkpoint('tiny-test-clip', folder, seed)}"
