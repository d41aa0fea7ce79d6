"""What the open_clip plugin decides without a model."""

import http.client

import pytest

from mmsearch.core.errors import UnknownNameError
from mmsearch.core.types import EncoderOptions
from mmsearch.encoders import open_clip as plugin


def options(cache, offline=False):
    return EncoderOptions("", "cpu", cache, offline=offline)


@pytest.fixture
def requested_urls(monkeypatch):
    """The hub's addresses that were asked; it answers with what the list's owner puts in."""
    calls = []

    def urlopen(request, timeout):
        calls.append(request.full_url)
        raise http.client.BadStatusLine("what is this?")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return calls


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_the_variable_of_the_hub_forbids_a_connection(tmp_path, monkeypatch, requested_urls, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert not plugin.is_available(options(tmp_path))
    assert requested_urls == []


def test_the_setting_forbids_a_connection(tmp_path, monkeypatch, requested_urls):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not plugin.is_available(options(tmp_path, offline=True))
    assert requested_urls == []


def test_an_answer_that_is_no_http_is_no_answer(tmp_path, monkeypatch, requested_urls):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(plugin, "HUB_TIMEOUT_S", 0.2)
    assert not plugin.is_available(options(tmp_path))
    assert len(requested_urls) == 1


def test_a_variant_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tag = plugin._parse_variant("ViT-B-32/openai")
    assert (tag.architecture, tag.tag, tag.file, tag.local_files) == (
        "ViT-B-32",
        "openai",
        None,
        (),
    )
    local = plugin._parse_variant("ViT-B-32@w.safetensors")
    assert local.variant == f"ViT-B-32@{tmp_path}/w.safetensors"
    assert local.local_files == (tmp_path / "w.safetensors",)
    own = plugin._parse_variant("my@odd/tiny.json@w.pt")
    assert own.architecture == str(tmp_path / "my@odd/tiny.json")
    assert own.local_files == (tmp_path / "w.pt", tmp_path / "my@odd/tiny.json")
    assert plugin._parse_variant("").variant == plugin.RECOMMENDED_VARIANT


def test_no_two_variants_share_a_folder():
    variants = ["A/b", "A_b@/c", "A@/b", "a/b", "A@/" + "x" * 200 + "1", "A@/" + "x" * 200 + "2"]
    slugs = {plugin._slug(plugin.ParsedVariant(variant, "", None, None)) for variant in variants}
    assert len(slugs) == len(variants)
    assert all(len(slug) < 120 and "/" not in slug for slug in slugs)


def test_models_in_the_cache_of_the_hub_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub/models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    found = {model.name: model for model in plugin.models(options(tmp_path))}
    assert found["open_clip:ViT-L-14/laion2b_s32b_b82k"].local
    assert f"open_clip:{plugin.RECOMMENDED_VARIANT}" in found
    assert not found[f"open_clip:{plugin.RECOMMENDED_VARIANT}"].local


@pytest.mark.parametrize("content", [None, "{nope", "[]", '{"embed_dim": 4}'])
def test_a_file_that_describes_no_architecture_is_named(tmp_path, content):
    config = tmp_path / "odd.json"
    if content is not None:
        config.write_text(content)
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(UnknownNameError, match=r"odd\.json"):
        plugin.build(EncoderOptions(f"{config}@{tmp_path / 'w.safetensors'}", "cpu", tmp_path))


def test_only_square_pictures():
    from mmsearch.core.errors import ModelUnavailableError
    from mmsearch.encoders._open_clip_loader import _make_preprocessor

    preprocess_cfg = {"resize_mode": "squash", "interpolation": "bicubic", "fill_color": 0}
    assert _make_preprocessor("x", preprocess_cfg | {"size": [32, 32]}).size_px == 32
    with pytest.raises(ModelUnavailableError, match="only squares"):
        _make_preprocessor("x", preprocess_cfg | {"size": (32, 48)})
