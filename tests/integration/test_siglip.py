"""SigLIP: a tiny model with its kind of text tower and tokenizer, and random weights."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.errors import MMSearchError, ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.encoders import open_clip as plugin
from tests.clip_checkpoints import TINY_SIGLIP, save_checkpoint, tiny_siglip_variant

TEXTS = ["a photo of a dog", "A RED car!", "", "ein Hund am Strand", "word " * 90]


def options(variant, cache, **more):
    return EncoderOptions(variant, "cpu", cache, offline=True, **more)


def encode(encoder, texts):
    return encoder.encode(InputKind.TEXT, [encoder.prepare(InputKind.TEXT, t) for t in texts])


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # The tokenizer needs no other package.
        patch.setitem(sys.modules, "transformers", None)
        yield tiny_siglip_variant(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def exact_encoder(variant, tmp_path_factory):
    cache = tmp_path_factory.mktemp("exact")
    return plugin.build(options(variant, cache, precision="float32"))


@pytest.fixture
def tagged(variant, monkeypatch):
    """The tiny model as ARCH/TAG of open_clip; returns the path of its weights."""
    import open_clip

    monkeypatch.setattr(plugin, "list_architectures", lambda: ["tiny-test-siglip"])
    tags = {"webli": {"hf_hub": "stand-in/weights/", "mean": (0.5,) * 3, "std": (0.5,) * 3}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-test-siglip", tags)
    return Path(variant.rpartition("@")[2])


def test_siglip_short_text_has_vector_of_text_padded_to_context_length(variant, exact_encoder):
    import open_clip
    import torch

    file = variant.rpartition("@")[2]
    model = open_clip.create_model("tiny-test-siglip", pretrained=file).eval()
    prepared = [exact_encoder.prepare(InputKind.TEXT, text) for text in TEXTS]
    padded = np.zeros((len(TEXTS), 64), dtype=np.int64)
    for row, ids in zip(padded, prepared, strict=True):
        row[: len(ids)] = ids
    with torch.inference_mode():
        expected = model.encode_text(torch.from_numpy(padded), normalize=True).numpy()
        unpadded = model.encode_text(torch.from_numpy(prepared[0])[None], normalize=True).numpy()
    vectors = exact_encoder.encode(InputKind.TEXT, prepared)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert float(vectors[0] @ unpadded[0]) < 0.99
    alone = encode(exact_encoder, TEXTS[:1])
    np.testing.assert_allclose(alone, vectors[:1], atol=1e-5)


@pytest.fixture
def _table_outside_graph(monkeypatch):
    monkeypatch.setattr("mmsearch.encoders._onnx.export.MIN_TABLE_BYTES", 0)


@pytest.mark.usefixtures("_table_outside_graph")
def test_siglip_table_of_tokens_is_stored_outside_the_graph(variant, exact_encoder, tmp_path):
    exact = encode(exact_encoder, TEXTS)
    for precision, is_int8, tolerance in (("float32", False, 1e-6), ("auto", True, 5e-3)):
        cache = tmp_path / precision
        encoder = plugin.build(options(variant, cache, precision=precision))
        table = encoder._model.manifest.towers["text"].table
        assert (table.rows, table.columns, table.is_int8) == (600, 64, is_int8)
        vectors = encode(encoder, TEXTS)
        assert 1 - float((vectors * exact).sum(axis=1).min()) < tolerance
        again = encode(plugin.build(options(variant, cache, on_message=pytest.fail)), TEXTS)
        np.testing.assert_array_equal(again, vectors)
    # The int8 copy does not count as float32.
    spoken = []
    other = options(variant, tmp_path / "auto", precision="float32", on_message=spoken.append)
    np.testing.assert_allclose(encode(plugin.build(other), TEXTS), exact, atol=1e-5)
    assert spoken


@pytest.mark.usefixtures("_table_outside_graph")
def test_siglip_damaged_table_is_compiled_again_at_the_next_start(variant, tmp_path):
    encoder = plugin.build(options(variant, tmp_path))
    exact = encode(encoder, TEXTS)
    path = next((tmp_path / "models").glob("*/text.tokens"))
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.write_bytes(content)
    damaged = plugin.build(options(variant, tmp_path))
    with pytest.raises(MMSearchError, match=r"text\.tokens is damaged"):
        encode(damaged, TEXTS)
    np.testing.assert_array_equal(encode(plugin.build(options(variant, tmp_path)), TEXTS), exact)


def test_siglip_pads_to_context_length_in_manifest(exact_encoder):
    assert not exact_encoder._model.manifest.tokenizer.pads_to_longest


def test_checkpoint_of_siglip_architecture_has_its_normalisation_of_pictures():
    from mmsearch.encoders._open_clip_loader import _common_preprocessing

    assert _common_preprocessing("ViT-B-32-SigLIP2-256") == {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    assert _common_preprocessing("ViT-B-32")["resize_mode"] == "shortest"
    # Its tags do not agree on the normalisation.
    assert set(_common_preprocessing("ViT-L-14")) == {"interpolation", "resize_mode"}


def test_compiled_weights_open_without_file_under_name_of_tag(tagged, tmp_path):
    file = tmp_path / "download" / "open_clip_model.safetensors"
    file.parent.mkdir()
    for name in (tagged.name, "tokenizer.json", "tokenizer_config.json"):
        target = file if name == tagged.name else file.with_name(name)
        target.write_bytes(tagged.with_name(name).read_bytes())
    messages = []
    compiling = options("", tmp_path, on_message=messages.append)
    spec = plugin.compile_weights("tiny-test-siglip/webli", file, compiling)
    assert len(messages) == 2
    assert plugin.compile_weights("tiny-test-siglip/webli", file, compiling) == spec
    assert len(messages) == 2
    for path in list(file.parent.iterdir()):
        path.unlink()
    encoder = plugin.build(options("tiny-test-siglip/webli", tmp_path, on_message=pytest.fail))
    assert encoder.spec == spec
    assert spec.name == "open_clip:tiny-test-siglip/webli"
    assert spec.preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert encode(encoder, TEXTS).shape == (5, 32)
    picture = encoder.prepare(InputKind.IMAGE, np.zeros((9, 9, 3), np.uint8))
    assert encoder.encode(InputKind.IMAGE, [picture]).shape == (1, 32)


def test_compiling_other_weights_replaces_those_of_the_cache(tagged, tmp_path):
    first = plugin.compile_weights("tiny-test-siglip/webli", tagged, options("", tmp_path))
    other = save_checkpoint("tiny-test-siglip", tagged.parent, seed=1)
    second = plugin.compile_weights("tiny-test-siglip/webli", other, options("", tmp_path))
    assert first.weights_sha256 != second.weights_sha256
    assert plugin.build(options("tiny-test-siglip/webli", tmp_path)).spec == second


def test_compiling_a_broken_file_keeps_the_cache(tagged, tmp_path):
    first = plugin.compile_weights("tiny-test-siglip/webli", tagged, options("", tmp_path))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tagged.read_bytes()[:5000])
    with pytest.raises(ModelUnavailableError, match="cannot be loaded as a checkpoint"):
        plugin.compile_weights("tiny-test-siglip/webli", broken, options("", tmp_path))
    assert plugin.build(options("tiny-test-siglip/webli", tmp_path)).spec == first


def test_compile_weights_needs_a_tag(variant, tmp_path):
    for name in (variant, "tiny-test-siglip"):
        with pytest.raises(UnknownNameError):
            plugin.compile_weights(name, tmp_path / "file", options("", tmp_path))


def test_siglip_without_tokenizer_says_which_files_are_missing(variant, tmp_path):
    config, _, file = variant.rpartition("@")
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(Path(file).read_bytes())
    with pytest.raises(ModelUnavailableError, match="could not be downloaded") as caught:
        plugin.build(options(f"{config}@{alone}", tmp_path))
    assert "tokenizer_config.json" in str(caught.value)
    alone.with_name("tokenizer.json").write_text("{}")
    alone.with_name("tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelUnavailableError, match="cannot be read"):
        plugin.build(options(f"{config}@{alone}", tmp_path))


def test_tiny_model_has_the_text_settings_of_siglip2():
    import open_clip

    true_config = open_clip.get_model_config("ViT-B-32-SigLIP2-256")["text_cfg"]
    for key in ("context_length", "no_causal_mask", "proj_bias", "pool_type", "tokenizer_kwargs"):
        assert TINY_SIGLIP["text_cfg"][key] == true_config[key]
