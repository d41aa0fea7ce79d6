"""Captions by small models that were taught what to say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from mmsearch.core.derived import EnricherOptions
from mmsearch.core.errors import (
    DecodeError,
    MissingExtraError,
    ModelUnavailableError,
    UsageError,
)
from mmsearch.core.types import EncoderSpec
from mmsearch.enrichers import captions
from tests.captioning_models import FAMILIES, make_captioning_model

ENCODER = EncoderSpec("toy", 3, "a" * 64, {}, 1, 16)


def picture(*colour, size=(60, 80)):
    pixels = np.full((*size, 3), colour, np.uint8)
    pixels[: size[0] // 3, : size[1] // 3] = 255
    return pixels


PICTURES = {
    "a red dog": picture(200, 30, 30),
    "green ship": picture(30, 200, 30),
    "one blue tree here": picture(30, 30, 200),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    return make_captioning_model(folder, PICTURES, request.param)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return make_captioning_model(tmp_path_factory.mktemp("models") / "blip", PICTURES)


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "model")


def build(folder, **values):
    return captions.build(EnricherOptions(model_folder=Path(folder), device="cpu", **values))


def fingerprint(folder):
    return captions.fingerprint(EnricherOptions(model_folder=Path(folder)), ENCODER)


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_models_of_each_family_say_what_they_were_taught(family):
    captioner = build(family)
    for caption, pixels in PICTURES.items():
        (text,) = captioner.read(pixels)
        assert (text.kind, text.text, text.source) == ("caption", caption, "captions")
        assert 0.8 < text.confidence <= 1


def test_confidence_is_the_mean_probability_of_the_tokens(trained):
    import torch

    captioner = build(trained)
    model, processor = captioner._model, captioner._processor
    pixels = processor(images=np.array(PICTURES["green ship"]), return_tensors="pt")
    (text,) = captioner.read(PICTURES["green ship"])
    ids = captioner._tokenizer("green ship", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = model(**pixels, input_ids=ids).logits[0, :-1]
    probabilities = logits.softmax(-1)[range(3), ids[0, 1:]]
    assert text.confidence == pytest.approx(float(probabilities.log().mean().exp()), abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 2), (1, 3000), (3000, 1), (3, 3), (1, 1), (4000, 3000)])
def test_pictures_of_any_shape_are_read(trained, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert len(build(trained).read(pixels)) == (shape != (1, 1))


def test_captions_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(captions, "MAX_TOKENS", 2)
    (text,) = build(folder).read(PICTURES["one blue tree here"])
    assert text.text == "one blue"


def test_settings_of_the_folder_change_no_decoding(folder):
    settings = folder / "generation_config.json"
    edit(settings, num_beams=4, do_sample=True, temperature=5.0, top_k=50, max_length=3)
    assert {build(folder).read(pixels)[0].text for pixels in PICTURES.values()} == set(PICTURES)


def test_a_picture_that_the_model_cannot_read_has_a_reason(trained, monkeypatch):
    captioner = build(trained)
    monkeypatch.setattr(captioner._model, "generate", lambda **_: 1 / 0)
    with pytest.raises(DecodeError, match="no caption can be made of it: division by zero"):
        captioner.read(PICTURES["green ship"])


def test_decoder_keeps_the_pixels_that_the_model_reads(trained):
    assert build(trained).edge_px == 32


def test_fingerprint_is_that_of_the_files(folder, tmp_path):
    before = fingerprint(folder)
    assert before.startswith("captions-blip-0MB-")
    (folder / "README.md").write_text("words")
    folder = folder.rename(tmp_path / "renamed")
    assert fingerprint(folder) == before
    edit(folder / "preprocessor_config.json", do_rescale=False)
    assert fingerprint(folder) != before


def test_memory_grows_with_the_weights(folder):
    options = EnricherOptions(model_folder=Path(folder))
    small = captions.memory_mb(options)
    (folder / "more.safetensors").write_bytes(bytes(3_000_000))
    assert captions.memory_mb(options) == small + 3


def test_gpu_is_used_as_the_setting_says(trained, monkeypatch):
    monkeypatch.setattr(captions, "has_nvidia_gpu", lambda: True)
    assert [captions.uses_gpu(device) for device in ("cpu", "auto", "cuda")] == [False, True, True]
    monkeypatch.setattr(captions, "has_nvidia_gpu", lambda: False)
    assert not captions.uses_gpu("auto")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = EnricherOptions(model_folder=trained, device="cuda")
    with pytest.raises(UsageError, match="torch finds no cuda device"):
        captions.build(options)
    captions.build(replace(options, device="auto"))


# --- folders without a captioning model ---


def test_model_must_be_named():
    with pytest.raises(UsageError, match="No captioning model was named"):
        captions.fingerprint(EnricherOptions(), ENCODER)


@pytest.mark.parametrize("name", ["Salesforce/blip-image-captioning-base", "~nobody/x", "a\nb"])
def test_name_of_a_model_is_not_downloaded(name):
    with pytest.raises(ModelUnavailableError, match="There is no folder") as caught:
        fingerprint(name)
    assert "never downloaded" in caught.value.hint


def test_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(ModelUnavailableError, match=r"config\.json is missing"):
        fingerprint(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_unreadable_config_is_named(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelUnavailableError, match=r"config\.json is not readable"):
        fingerprint(folder)


@pytest.mark.parametrize("config", [{}, [], {"model_type": "clip"}, {"model_type": ["blip"]}])
def test_other_models_are_refused(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailableError, match="has no captioning model: its") as caught:
        fingerprint(folder)
    assert "blip, git, vision-encoder-decoder" in caught.value.hint


def test_weights_that_can_carry_code_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailableError, match=r"pytorch_model\.bin .* can carry code"):
        fingerprint(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelUnavailableError, match="has no weights"):
        fingerprint(folder)


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_incomplete_weights_are_found_before_any_work(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelUnavailableError, match="damaged or incomplete"):
        fingerprint(folder)


def test_missing_weights_are_not_made_up(folder):
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["text_decoder.bert.embeddings.word_embeddings.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelUnavailableError, match="lacks 2 of its weights, such as text_dec"):
        build(folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("tokenizer.json", "lacks its tokenizer"), ("preprocessor_config.json", "cannot be loaded: ")],
)
def test_missing_files_of_a_model_are_one_sentence(folder, name, reason):
    (folder / name).unlink()
    for other in folder.glob("tokenizer_config.json"):
        other.unlink()
    with pytest.raises(ModelUnavailableError, match=reason):
        build(folder)


def test_code_in_the_folder_does_not_run(folder, tmp_path):
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    classes = {"AutoConfig": "own.C", "AutoModelForImageTextToText": "own.M"}
    edit(folder / "config.json", auto_map=classes)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.T", None]})
    edit(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "own.P"})
    assert build(folder).read(PICTURES["green ship"])[0].text == "green ship"
    assert not (tmp_path / "ran").exists()


def test_missing_extra_is_named(trained, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="needs the Python package 'transformers'"):
        fingerprint(trained)
