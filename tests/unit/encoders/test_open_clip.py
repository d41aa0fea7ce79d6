"""Decisions of the open_clip plugin that need no model."""

import http.client
import sys

import pytest

from mmsearch.core.errors import MissingExtraError, ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderOptions
from mmsearch.encoders import open_clip as plugin


def options(cache, offline=False):
    return EncoderOptions("", "cpu", cache, offline=offline)


@pytest.fixture
def requested_urls(monkeypatch):
    """The hub URLs that were requested; each request gets an invalid HTTP answer."""
    calls = []

    def urlopen(request, timeout):
        calls.append(request.full_url)
        raise http.client.BadStatusLine("what is this?")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return calls


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_open_clip_hub_offline_variable_prevents_request(
    tmp_path, monkeypatch, requested_urls, value
):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert not plugin.is_available(options(tmp_path))
    assert requested_urls == []


def test_open_clip_offline_option_prevents_request(tmp_path, monkeypatch, requested_urls):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not plugin.is_available(options(tmp_path, offline=True))
    assert requested_urls == []


def test_open_clip_invalid_http_answer_means_unavailable(tmp_path, monkeypatch, requested_urls):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(plugin, "HUB_TIMEOUT_S", 0.2)
    assert plugin._find_hub_problem(options(tmp_path)) == "the model hub does not answer"
    assert len(requested_urls) == 1


def test_new_index_never_downloads_the_recommended_model_by_itself(
    tmp_path, monkeypatch, requested_urls
):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not plugin.is_available(options(tmp_path))
    assert requested_urls == []


@pytest.mark.parametrize(
    ("offline", "reason"),
    [(True, "downloads are disabled (offline)"), (False, "the model hub does not answer")],
)
def test_build_missing_weights_without_hub_is_one_sentence_before_torch(
    tmp_path, monkeypatch, requested_urls, offline, reason
):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(plugin, "HUB_TIMEOUT_S", 0.2)
    monkeypatch.setattr(plugin, "_is_in_hub_cache", lambda repository: False)
    messages = []
    missing = EncoderOptions(
        "ViT-B-32/laion2b_s34b_b79k", "cpu", tmp_path, offline, messages.append
    )
    with pytest.raises(ModelUnavailableError) as failed:
        plugin.build(missing)
    assert failed.value.message == (
        "The weights of open_clip:ViT-B-32/laion2b_s34b_b79k are not on this machine, and "
        f"{reason}."
    )
    assert messages == []


def test_load_model_without_tokenizer_package_fails_before_the_download(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(plugin, "_find_hub_problem", lambda options: pytest.fail("asked"))
    variant = plugin.parse_variant("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k")
    with pytest.raises(MissingExtraError, match="pip install transformers"):
        plugin._load_model(variant, options(tmp_path))
    plugin.check_tokenizer_package(plugin.parse_variant("ViT-B-32/openai"))
    plugin.check_tokenizer_package(plugin.parse_variant("no-such-architecture/openai"))


def test_parse_variant_splits_architecture_tag_and_local_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tag = plugin.parse_variant("ViT-B-32/openai")
    assert (tag.architecture, tag.tag, tag.file, tag.local_files) == (
        "ViT-B-32",
        "openai",
        None,
        (),
    )
    local = plugin.parse_variant("ViT-B-32@w.safetensors")
    assert local.variant == f"ViT-B-32@{tmp_path}/w.safetensors"
    assert local.local_files == (tmp_path / "w.safetensors",)
    own = plugin.parse_variant("my@odd/tiny.json@w.pt")
    assert own.architecture == str(tmp_path / "my@odd/tiny.json")
    assert own.local_files == (tmp_path / "w.pt", tmp_path / "my@odd/tiny.json")
    assert plugin.parse_variant("").variant == plugin.RECOMMENDED_VARIANT


def test_slug_is_short_and_distinct_for_each_variant():
    variants = ["A/b", "A_b@/c", "A@/b", "a/b", "A@/" + "x" * 200 + "1", "A@/" + "x" * 200 + "2"]
    names = [plugin.ParsedVariant(variant, "", None, None) for variant in variants]
    slugs = {plugin.make_slug(name) for name in names}
    assert len(slugs) == len(variants)
    assert all(len(slug) < 120 and "/" not in slug for slug in slugs)


def test_open_clip_models_marks_models_in_hub_cache_as_local(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub/models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    found = {model.name: model for model in plugin.models(options(tmp_path))}
    assert found["open_clip:ViT-L-14/laion2b_s32b_b82k"].local
    assert f"open_clip:{plugin.RECOMMENDED_VARIANT}" in found
    assert not found[f"open_clip:{plugin.RECOMMENDED_VARIANT}"].local


@pytest.mark.parametrize("content", [None, "{nope", "[]", '{"embed_dim": 4}'])
def test_open_clip_invalid_architecture_file_raises_error_with_name(tmp_path, content):
    config = tmp_path / "odd.json"
    if content is not None:
        config.write_text(content)
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(UnknownNameError, match=r"odd\.json"):
        plugin.build(EncoderOptions(f"{config}@{tmp_path / 'w.safetensors'}", "cpu", tmp_path))


def test_make_preprocessor_non_square_size_raises_model_unavailable():
    from mmsearch.core.errors import ModelUnavailableError
    from mmsearch.encoders._open_clip_loader import _make_preprocessor

    preprocess_cfg = {"resize_mode": "squash", "interpolation": "bicubic", "fill_color": 0}
    assert _make_preprocessor("x", preprocess_cfg | {"size": [32, 32]}).size_px == 32
    with pytest.raises(ModelUnavailableError, match="only squares"):
        _make_preprocessor("x", preprocess_cfg | {"size": (32, 48)})
