"""Models of Whisper from packages and folders."""

import hashlib
import sys

import pytest

from mmsearch.core.errors import ChecksumError, ModelUnavailableError, UnknownNameError
from mmsearch.enrichers import _whisper_models
from mmsearch.enrichers._whisper_models import PackagedFile, PackagedModel, find_model


def packaged(name, content, *parts):
    return PackagedFile(name, len(content), hashlib.sha256(content).hexdigest(), parts)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of Python packages with a model in two halves, which is all that is known."""
    folder = tmp_path / "packages"
    for package, files in {
        "part1": {"model.bin.1": b"first ", "config.json": b"{}"},
        "part2": {"model.bin.2": b"second"},
    }.items():
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise RuntimeError('imported')")
        for name, content in files.items():
            (folder / package / name).write_bytes(content)
    model = PackagedModel(
        "toy==1",
        (
            packaged("model.bin", b"first second", "part1/model.bin.1", "part2/model.bin.2"),
            packaged("config.json", b"{}", "part1/config.json"),
        ),
    )
    monkeypatch.setattr(_whisper_models, "PACKAGED_MODELS", {"base": model, "toy": model})
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_halves_are_joined_in_the_cache_without_importing_the_packages(packages, tmp_path):
    name, folder = find_model("auto", tmp_path)
    assert name == "base"
    assert (folder / "model.bin").read_bytes() == b"first second"
    assert (folder / "config.json").read_bytes() == b"{}"


def test_model_in_the_cache_is_not_read_from_its_packages_again(packages, tmp_path):
    _, folder = find_model("base", tmp_path)
    (packages / "part2" / "model.bin.2").unlink()
    assert find_model("base", tmp_path) == ("base", folder)


@pytest.mark.parametrize("content", [b"SECOND", b"second!", b""])
def test_other_content_is_refused_and_leaves_nothing(packages, tmp_path, content):
    (packages / "part2" / "model.bin.2").write_bytes(content)
    with pytest.raises(ChecksumError, match="are not the files"):
        find_model("base", tmp_path)
    assert not [path for path in (tmp_path / "models").iterdir() if path.is_dir()]


def test_truncated_model_in_the_cache_is_made_once_more(packages, tmp_path):
    _, folder = find_model("base", tmp_path)
    (folder / "model.bin").write_bytes(b"first")
    assert (find_model("base", tmp_path)[1] / "model.bin").read_bytes() == b"first second"


def test_missing_packages_are_named(packages, tmp_path):
    (packages / "part2" / "model.bin.2").unlink()
    with pytest.raises(ModelUnavailableError, match="no model for speech on this machine"):
        find_model("auto", tmp_path)
    with pytest.raises(ModelUnavailableError, match=r"pip install toy==1"):
        find_model("base", tmp_path)


def test_name_of_a_hub_is_unknown(tmp_path):
    for model in ("small", "openai/whisper-small", "large-v3", ""):
        with pytest.raises(UnknownNameError, match="There is no model for speech"):
            find_model(model, tmp_path)


def test_folder_needs_its_tokenizer(tmp_path):
    for name in ("model.bin", "config.json"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelUnavailableError, match=r"has no tokenizer\.json"):
        find_model(str(tmp_path), tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"x")
    assert find_model(str(tmp_path), tmp_path) == (tmp_path.name, tmp_path)
