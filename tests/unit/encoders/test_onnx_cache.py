import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.errors import MMSearchError, ModelUnavailableError
from mmsearch.core.types import EncoderOptions, EncoderSpec, InputKind
from mmsearch.encoders._onnx.cache import (
    CachedFile,
    CompiledTower,
    Manifest,
    ModelCache,
    SourceFile,
    Tower,
    TowerName,
    model_cache,
)
from mmsearch.encoders._onnx.model import LoadedModel, ModelSource
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig
from mmsearch.encoders._two_tower import TwoTowerEncoder

SPEC = EncoderSpec("toy", 3, "0" * 64, {"size_px": 8, "mean": [0.5]}, 1, 16)
FACTS = TokenizerConfig(16, "none", 0, None, True, False)
PREPARATION = PixelPreprocessor(8)


@pytest.fixture
def folder(tmp_path):
    cache = ModelCache(tmp_path / "model")
    with cache.lock():
        pass
    return cache


def manifest_of(cache, spec=SPEC, sources=()):
    (cache.folder / "text.onnx").write_bytes(b"graph")
    return Manifest(
        spec=spec,
        preparation=PREPARATION,
        tokenizer=FACTS,
        tokenizer_file=cache.write_tokenizer("{}"),
        towers={TowerName.TEXT: Tower((cache.describe_file("text.onnx"),), 1e-7)},
        sources=sources,
    )


def test_model_cache_manifest_round_trip_returns_equal_manifest(folder, tmp_path):
    (tmp_path / "weights").write_bytes(b"w")
    manifest = manifest_of(folder, sources=(SourceFile.from_path(tmp_path / "weights"),))
    folder.write(manifest)
    assert folder.read() == manifest
    assert folder.read().spec.fingerprint == SPEC.fingerprint


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 0}', '{"version": 2}'])
def test_model_cache_invalid_manifest_reads_as_none(folder, content):
    (folder.folder / "manifest.json").write_text(content)
    assert folder.read() is None


def test_model_cache_missing_manifest_reads_as_none(tmp_path):
    assert ModelCache(tmp_path / "nowhere").read() is None


def test_model_cache_verify_rejects_changed_truncated_or_missing_file(folder):
    path = folder.folder / "text.onnx"
    path.write_bytes(b"graph")
    file = folder.describe_file("text.onnx")
    assert folder.verify([file])
    for content in (b"grapH", b"grap", b""):
        path.write_bytes(content)
        assert not folder.verify([file])
    path.unlink()
    assert not folder.verify([file])


def test_compiled_tower_invalid_graph_raises_error_with_path(tmp_path):
    (tmp_path / "text.onnx").write_bytes(b"no graph")
    with pytest.raises(MMSearchError, match=r"cannot open .*text\.onnx"):
        CompiledTower(tmp_path / "text.onnx")


def test_model_cache_staging_dir_clears_remains_of_killed_export(folder):
    (folder.folder / "export-dead").mkdir()
    (folder.folder / "export-dead" / "text.onnx").write_bytes(b"half")
    with folder.lock(), folder.staging_dir() as staging_dir:
        assert [path.name for path in folder.folder.glob("export-*")] == [staging_dir.name]
        (staging_dir / "text.onnx").write_bytes(b"whole")
        (installed,) = folder.install([staging_dir / "text.onnx"])
    assert installed == CachedFile("text.onnx", 5, folder.describe_file("text.onnx").xxh3)
    assert not list(folder.folder.glob("export-*"))


def test_model_cache_install_replaces_open_file_without_overwriting(folder):
    (folder.folder / "text.onnx").write_bytes(b"old")
    with (folder.folder / "text.onnx").open("rb") as reader:
        with folder.lock(), folder.staging_dir() as staging_dir:
            (staging_dir / "text.onnx").write_bytes(b"new")
            folder.install([staging_dir / "text.onnx"])
        assert reader.read() == b"old"


class TestSourceFileRefresh:
    def test_refresh_unchanged_file_skips_hashing(self, tmp_path, monkeypatch):
        path = tmp_path / "weights"
        path.write_bytes(b"w")
        source = SourceFile.from_path(path)
        monkeypatch.setattr("mmsearch.encoders._onnx.cache.file_sha256", None)
        assert source.refresh() is source

    def test_refresh_new_mtime_with_same_content_updates_mtime(self, tmp_path):
        path = tmp_path / "weights"
        path.write_bytes(b"w")
        source = SourceFile.from_path(path)
        os.utime(path, (1, 1))
        assert source.refresh() == replace(source, mtime_ns=1_000_000_000)

    def test_refresh_other_content_of_same_size_returns_none(self, tmp_path):
        path = tmp_path / "weights"
        path.write_bytes(b"w")
        source = SourceFile.from_path(path)
        path.write_bytes(b"v")
        os.utime(path, (1, 1))
        assert source.refresh() is None

    def test_refresh_missing_file_counts_as_unchanged(self, tmp_path):
        path = tmp_path / "weights"
        path.write_bytes(b"w")
        source = SourceFile.from_path(path)
        path.unlink()
        assert source.refresh() is source


class LoadedError(Exception):
    """Raised when the torch model is loaded."""


def raise_loaded():
    raise LoadedError


class TestTwoTowerEncoderManifest:
    @pytest.fixture
    def options(self, tmp_path):
        return EncoderOptions("", "cpu", tmp_path)

    @pytest.fixture
    def cached(self, options):
        cache = model_cache("toy", options)
        with cache.lock():
            cache.write(manifest_of(cache))
        return cache

    def model_source(self, sources=(), code_version=1, load=raise_loaded):
        return ModelSource("toy", "toy", sources, code_version, load)

    @pytest.mark.usefixtures("cached")
    def test_encoder_with_compiled_model_does_not_load_torch_model(self, options):
        encoder = TwoTowerEncoder(self.model_source(), options)
        assert encoder.spec == SPEC
        assert encoder.encode(InputKind.TEXT, []).shape == (0, 3)

    @pytest.mark.usefixtures("cached")
    def test_encoder_manifest_of_other_code_version_loads_model(self, options):
        with pytest.raises(LoadedError):
            TwoTowerEncoder(self.model_source(code_version=2), options)

    def test_encoder_one_changed_source_file_loads_model(self, options, cached, tmp_path):
        files = [tmp_path / "weights", tmp_path / "config"]
        for file in files:
            file.write_bytes(b"1")
        cached.write(
            manifest_of(cached, sources=tuple(SourceFile.from_path(file) for file in files))
        )
        os.utime(files[0], (1, 1))
        TwoTowerEncoder(self.model_source(tuple(files)), options)
        # The manifest stores the new time, so that the file is not read at every start.
        assert cached.read().sources[0].mtime_ns == 1_000_000_000
        files[1].write_bytes(b"22")
        with pytest.raises(LoadedError):
            TwoTowerEncoder(self.model_source(tuple(files)), options)

    def test_encoder_recompiled_from_other_weights_raises_model_unavailable(self, options, cached):
        """Vectors of other weights must never be compared with those of the index."""
        other = replace(SPEC, weights_sha256="1" * 64)
        model = LoadedModel(other, PREPARATION, FACTS, "{}", None, None)
        encoder = TwoTowerEncoder(self.model_source(load=lambda: model), options)
        (cached.folder / "text.onnx").write_bytes(b"damaged")
        with pytest.raises(ModelUnavailableError, match="have changed since it was opened"):
            encoder.encode(InputKind.TEXT, [np.array([1])])

    def test_encoder_other_weights_compiled_by_other_process_raise_unavailable(
        self, options, cached
    ):
        encoder = TwoTowerEncoder(self.model_source(), options)
        (cached.folder / "text.onnx").write_bytes(b"other")
        other = replace(SPEC, weights_sha256="1" * 64)
        fresh = replace(
            manifest_of(cached, other),
            towers={TowerName.TEXT: Tower((cached.describe_file("text.onnx"),), 0.0)},
        )
        (cached.folder / "tokenizer.json").write_text('{"other": 1}')
        cached.write(replace(fresh, tokenizer_file=cached.describe_file("tokenizer.json")))
        with pytest.raises(ModelUnavailableError, match="have changed since it was opened"):
            encoder.prepare(InputKind.TEXT, "a dog")

    def test_encoder_source_changed_while_loading_raises_model_unavailable(self, options, tmp_path):
        file = Path(tmp_path / "weights")
        file.write_bytes(b"1")

        def load():
            file.write_bytes(b"22")
            return LoadedModel(SPEC, PREPARATION, FACTS, "{}", None, None)

        with pytest.raises(ModelUnavailableError, match="have changed since it was opened"):
            TwoTowerEncoder(self.model_source((file,), load=load), options)
        assert not list(tmp_path.glob("models/toy/manifest.json"))


def test_model_cache_manifest_is_json_with_max_difference(folder):
    folder.write(manifest_of(folder))
    stored = json.loads((folder.folder / "manifest.json").read_text())
    assert stored["towers"]["text"]["max_difference"] == 1e-7


def test_import_starts_no_usage_statistics(tmp_path):
    environment = {name: os.environ[name] for name in os.environ if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    program = "import time, mmsearch.encoders._onnx.cache; time.sleep(1)"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not list(tmp_path.rglob("*.db"))
