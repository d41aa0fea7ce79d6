import logging
import sys
import threading
import warnings

import numpy as np
import pytest

from mmsearch.core.errors import MMSearchError
from mmsearch.core.types import EncoderOptions, EncoderSpec, InputKind
from mmsearch.encoders._onnx.cache import CompiledTower, ModelCache
from mmsearch.encoders._onnx.model import LoadedModel, ModelSource
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig
from mmsearch.encoders._two_tower import TwoTowerEncoder


@pytest.fixture
def folder_cache(tmp_path):
    return ModelCache(tmp_path / "model")


def linear(dim=3):
    import torch

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.map = torch.nn.Linear(8 * 3, dim)

        def forward(self, pictures):
            means = pictures.float().mean(dim=1).flatten(1) / 255
            return torch.nn.functional.normalize(self.map(means), dim=1)

    return Linear().eval()


PICTURES = [[np.full((n, 8, 8, 3), 40 * n, dtype=np.uint8)] for n in (2, 1, 3)]


def exported(folder_cache, tower):
    from mmsearch.encoders._onnx.export import export_tower

    with folder_cache.lock():
        return export_tower(folder_cache, "image", tower, PICTURES, (0,))


def test_export_large_weights_are_stored_in_data_file_and_verified(folder_cache, monkeypatch):
    monkeypatch.setattr("mmsearch.encoders._onnx.export.MAX_SINGLE_FILE_BYTES", 0)
    tower = exported(folder_cache, linear(dim=512))
    assert [file.name for file in tower.files] == ["image.onnx", "image.onnx.data"]
    assert tower.max_difference < 1e-6
    vectors = CompiledTower(folder_cache.folder / "image.onnx").run(PICTURES[2])
    assert vectors.shape == (3, 512)
    data = folder_cache.folder / "image.onnx.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    assert not folder_cache.verify(tower.files)


def test_export_optimised_graph_keeps_large_weights_in_separate_file(folder_cache, monkeypatch):
    monkeypatch.setattr("mmsearch.encoders._onnx.quantize.EXTERNAL_DATA_MIN_BYTES", 0)
    tower = exported(folder_cache, linear(dim=512))
    assert tower.optimised
    assert tower.max_difference < 1e-6
    graph, weights = (folder_cache.folder / file.name for file in tower.files)
    assert graph.stat().st_size < weights.stat().st_size
    assert graph.stat().st_mode == weights.stat().st_mode
    assert folder_cache.verify(tower.files)
    vectors = CompiledTower(graph, optimised=True, prepacked=False).run(PICTURES[2])
    assert vectors.shape == (3, 512)


def test_export_tower_that_differs_from_torch_raises_error_and_leaves_no_file(
    folder_cache, monkeypatch
):
    class Wrong(CompiledTower):
        def run(self, inputs):
            return -super().run(inputs)

    monkeypatch.setattr("mmsearch.encoders._onnx.export.CompiledTower", Wrong)
    with pytest.raises(MMSearchError, match="differs from torch by"):
        exported(folder_cache, linear())
    assert not list(folder_cache.folder.glob("*.onnx"))


def test_export_leaves_logging_warnings_and_output_unchanged(folder_cache, capfd):
    import torch.jit  # adds warning filters once
    import torch.onnx  # noqa: F401

    before = (logging.root.manager.disable, list(warnings.filters), sys.stdout, sys.stderr)
    tower = exported(folder_cache, linear())
    assert (logging.root.manager.disable, list(warnings.filters), sys.stdout, sys.stderr) == before
    assert capfd.readouterr() == ("", "")
    assert [file.name for file in tower.files] == ["image.onnx"]
    assert {path.name for path in folder_cache.folder.iterdir()} <= {"image.onnx", "lock"}


def test_encoders_built_in_parallel_threads_compile_model_once(tmp_path):
    config = TokenizerConfig(16, "none", 0, None, True, False)
    spec = EncoderSpec("toy", 3, "0" * 64, {}, 1, 16)
    loads, lines, encoders = [], [], []

    def load():
        import torch

        class Words(torch.nn.Module):
            def forward(self, ids):
                counts = torch.stack([(ids == i).float().sum(1) for i in range(3)], dim=1)
                return torch.nn.functional.normalize(counts + 1, dim=1)

        loads.append(1)
        return LoadedModel(spec, PixelPreprocessor(8), config, TOKENIZER, linear(), Words())

    def build():
        options = EncoderOptions("", "cpu", tmp_path, on_message=lines.append)
        encoders.append(TwoTowerEncoder(ModelSource("toy", "toy", (), 1, load), options))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encoders) == 3
    assert len(loads) == 1
    assert len(lines) == 2
    for encoder in encoders:
        assert encoder.encode(InputKind.IMAGE, [PICTURES[0][0][0]]).shape == (1, 3)


TOKENIZER = """{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
"normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
"decoder": null, "model": {"type": "WordLevel", "vocab": {"?": 0, "a": 1, "dog": 2},
"unk_token": "?"}}"""
