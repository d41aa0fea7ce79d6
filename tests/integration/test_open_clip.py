"""OpenCLIP models from local checkpoints: ViT-B-32 and a tiny model, with random weights."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.encoders import open_clip as plugin
from tests.clip_checkpoints import save_checkpoint, tiny_variant

TEXTS = ["a red car", "a photo of two dogs playing on a beach", "word " * 90]


def options(variant, cache, **more):
    return EncoderOptions(variant, "cpu", cache, offline=True, **more)


@pytest.fixture(autouse=True, scope="module")
def _int8_is_faster():
    """Compile the same towers on every machine; int8 speed depends on processor and load."""
    from mmsearch.encoders._onnx import quantize

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "is_faster", lambda tower, than, sample: True)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_variant(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_checkpoint("ViT-B-32", tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def vit_encoder(vit, cache):
    return plugin.build(options(f"ViT-B-32@{vit}", cache, precision="float32"))


@pytest.fixture(scope="module")
def int8_encoder(vit, tmp_path_factory):
    return plugin.build(options(f"ViT-B-32@{vit}", tmp_path_factory.mktemp("int8")))


def test_open_clip_int8_towers_agree_with_float32(int8_encoder, vit_encoder, photos):
    assert {int8_encoder.device(kind) for kind in InputKind} == {"ONNX Runtime on cpu, int8"}
    assert {vit_encoder.device(kind) for kind in InputKind} == {"ONNX Runtime on cpu"}
    assert int8_encoder.spec == vit_encoder.spec
    pictures = []
    for path in sorted((photos / "photos").iterdir())[:20]:
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    for kind, items in ((InputKind.TEXT, TEXTS), (InputKind.IMAGE, pictures)):
        batch = [vit_encoder.prepare(kind, item) for item in items]
        exact, rough = vit_encoder.encode(kind, batch), int8_encoder.encode(kind, batch)
        # The choice of a tower uses other texts and pictures and requires 0.995 on them. With these
        # random weights, the minimum over its 27 texts is 0.9954; here we measured 0.9933.
        assert (exact * rough).sum(axis=1).min() >= 0.99
        alone = [int8_encoder.encode(kind, [item])[0] for item in batch]
        np.testing.assert_array_equal(rough, alone)


def test_open_clip_float32_requested_after_int8_is_used(tiny, tmp_path):
    assert "int8" in plugin.build(options(tiny, tmp_path)).device(InputKind.TEXT)
    exact = plugin.build(options(tiny, tmp_path, precision="float32"))
    exact.encode(InputKind.TEXT, [exact.prepare(InputKind.TEXT, "a dog")])
    assert "int8" not in exact.device(InputKind.TEXT)


def test_open_clip_encoder_agrees_with_open_clip_library(vit, vit_encoder, photos):
    import open_clip
    import torch

    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=str(vit))
    model.eval()
    paths = sorted((photos / "photos").iterdir())[:5]
    images = [Image.open(path).convert("RGB") for path in paths]
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
        texts = model.encode_text(tokens, normalize=True).numpy()
        pictures = model.encode_image(
            torch.stack([transform(image) for image in images]), normalize=True
        ).numpy()
    ours = vit_encoder.encode(
        InputKind.TEXT, [vit_encoder.prepare(InputKind.TEXT, t) for t in TEXTS]
    )
    np.testing.assert_allclose(ours, texts, atol=1e-5)
    batch = [vit_encoder.prepare(InputKind.IMAGE, np.asarray(image)) for image in images]
    # The encoder scales and crops pictures in one pass, which rounds slightly differently.
    np.testing.assert_allclose(vit_encoder.encode(InputKind.IMAGE, batch), pictures, atol=1e-4)
    for image in images:
        image.close()


def test_open_clip_text_encoded_alone_equals_padded_batch(vit_encoder):
    batch = [vit_encoder.prepare(InputKind.TEXT, text) for text in TEXTS]
    together = vit_encoder.encode(InputKind.TEXT, batch)
    for text, vector in zip(batch, together, strict=True):
        np.testing.assert_allclose(vit_encoder.encode(InputKind.TEXT, [text])[0], vector, atol=1e-5)
    assert len(batch[0]) == 5


def test_open_clip_model_cache_records_difference_from_torch(vit, vit_encoder, cache):
    manifest = next(found for found in (cache / "models").glob("open_clip-ViT-B-32*/manifest.json"))
    from mmsearch.encoders._onnx.cache import ModelCache

    towers = ModelCache(manifest.parent).read().towers
    assert set(towers) == {InputKind.TEXT, InputKind.IMAGE}
    assert all(0 <= tower.max_difference < 1e-4 for tower in towers.values())


def test_open_clip_spec_contains_model_name_and_weights_hash(vit, vit_encoder):
    import hashlib

    assert vit_encoder.spec.name == f"open_clip:ViT-B-32@{vit}"
    assert vit_encoder.spec.weights_sha256 == hashlib.sha256(vit.read_bytes()).hexdigest()
    assert (vit_encoder.spec.dim, vit_encoder.spec.context_length) == (512, 77)


def test_open_clip_changed_weights_file_gives_new_fingerprint(tiny, cache, tmp_path):
    config, _, file = tiny.rpartition("@")
    copy = tmp_path / "model.safetensors"
    shutil.copy(file, copy)
    said = []
    first = plugin.build(options(f"{config}@{copy}", cache, on_message=said.append)).spec
    assert len(said) == 2
    os.utime(copy, (1, 1))
    assert plugin.build(options(f"{config}@{copy}", cache, on_message=said.append)).spec == first
    assert len(said) == 2
    shutil.copy(save_checkpoint("tiny-test-clip", tmp_path, seed=1), copy)
    second = plugin.build(options(f"{config}@{copy}", cache, on_message=said.append)).spec
    assert len(said) == 4
    assert second.name == first.name
    assert second.fingerprint != first.fingerprint


def test_open_clip_damaged_cached_tower_is_compiled_again(tiny, tmp_path):
    said = []
    built = plugin.build(options(tiny, tmp_path, on_message=said.append))
    batch = [built.prepare(InputKind.TEXT, "a dog")]
    truth = built.encode(InputKind.TEXT, batch)
    for name in ("text.onnx", "tokenizer.json", "manifest.json"):
        path = next((tmp_path / "models").glob(f"*/{name}"))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        before = len(said)
        again = plugin.build(options(tiny, tmp_path, on_message=said.append))
        np.testing.assert_allclose(
            again.encode(InputKind.TEXT, [again.prepare(InputKind.TEXT, "a dog")]), truth, atol=1e-6
        )
        assert len(said) > before


def test_open_clip_compiled_model_loads_no_training_library(tiny, cache):
    plugin.build(options(tiny, cache))
    program = f"""
import sys
from pathlib import Path
import numpy as np
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.encoders import open_clip
encoder = open_clip.build(EncoderOptions({tiny!r}, "cpu", Path({str(cache)!r}), offline=True))
encoder.encode(InputKind.TEXT, [encoder.prepare(InputKind.TEXT, "a dog")])
encoder.encode(InputKind.IMAGE, [encoder.prepare(InputKind.IMAGE, np.zeros((9, 9, 3), np.uint8))])
open_clip.models(EncoderOptions("", "cpu", Path({str(cache)!r}), offline=True))
heavy = {{"torch", "open_clip", "timm", "transformers", "torchvision", "onnx"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_open_clip_pt_file_gives_same_vectors_as_safetensors(tiny, tmp_path):
    import torch
    from safetensors.torch import load_file

    config, _, file = tiny.rpartition("@")
    torch.save({"state_dict": load_file(file)}, tmp_path / "tiny.pt")
    one = plugin.build(options(tiny, tmp_path, precision="float32"))
    two = plugin.build(options(f"{config}@{tmp_path / 'tiny.pt'}", tmp_path, precision="float32"))
    batch = [one.prepare(InputKind.TEXT, "a dog")]
    np.testing.assert_allclose(
        one.encode(InputKind.TEXT, batch), two.encode(InputKind.TEXT, batch), atol=1e-6
    )


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_open_clip_checkpoint_with_code_is_refused_without_running_it(tiny, cache, tmp_path):
    import torch

    config = tiny.rpartition("@")[0]
    torch.save({"state_dict": {"x": Malicious(tmp_path / "pwned")}}, tmp_path / "evil.pt")
    with pytest.raises(ModelUnavailableError, match="more than tensors"):
        plugin.build(options(f"{config}@{tmp_path / 'evil.pt'}", cache))
    assert not (tmp_path / "pwned").exists()


def test_open_clip_checkpoint_of_other_architecture_is_refused(vit, tiny, cache, tmp_path):
    config, _, _file = tiny.rpartition("@")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded as a checkpoint of"):
        plugin.build(options(f"{config}@{vit}", cache))
    (tmp_path / "text.safetensors").write_text("this is no checkpoint")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        plugin.build(options(f"{config}@{tmp_path / 'text.safetensors'}", cache))


@pytest.mark.parametrize(
    ("variant", "error", "sentence"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", ModelUnavailableError, "or use the built-in model"),
        ("ViT-B-23/laion2b_s34b_b79k", UnknownNameError, "Similar names: .*ViT-B-32"),
        ("ViT-B-32/no_such_tag", UnknownNameError, "Known tags: .*laion2b_s34b_b79k"),
        ("ViT-B-32", UnknownNameError, "Try open_clip:ViT-B-32/"),
        ("ViT-B-32@/nowhere/file.safetensors", ModelUnavailableError, "no checkpoint file"),
    ],
)
def test_open_clip_unavailable_variant_error_suggests_alternatives(
    tmp_path, variant, error, sentence
):
    with pytest.raises(error, match=sentence):
        plugin.build(options(variant, tmp_path))


def test_open_clip_offline_error_names_model_and_both_remedies(tmp_path):
    with pytest.raises(ModelUnavailableError) as caught:
        plugin.build(options(plugin.RECOMMENDED_VARIANT, tmp_path))
    text = str(caught.value)
    assert plugin.RECOMMENDED_VARIANT in text
    assert "Connect to the internet once" in text
    assert "@FILE" in text


def test_open_clip_is_available_offline_returns_false(tmp_path):
    assert not plugin.is_available(options("", tmp_path))


def test_open_clip_is_available_with_unresponsive_hub_returns_false(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "HUB_TIMEOUT_S", 0.2)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: _never())
    assert not plugin.is_available(EncoderOptions("", "cpu", tmp_path, offline=False))


def _never():
    import time

    time.sleep(1)
    raise OSError("unreachable")


def test_index_with_open_clip_model_is_searched_with_that_model(
    tiny, cache, mmsearch, photos, tmp_path
):
    """Random weights give no useful ranking, but each picture is nearest to itself."""
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((photos / "photos").iterdir())[:12]:
        shutil.copy(path, few)
    home = tmp_path / "home"
    mmsearch("index", few, "--home", home, "--model", f"open_clip:{tiny}")
    picture = sorted(few.iterdir())[3]
    first = mmsearch("similar", picture, "--home", home, "-k1", "--paths").out.strip()
    assert first == str(picture)
    assert len(mmsearch("query", "a dog", "--home", home).out.splitlines()) == 10
    done = mmsearch("index", few, "--home", home, "--model", "starter", code=1)
    assert "was built with 'open_clip:" in done.err
