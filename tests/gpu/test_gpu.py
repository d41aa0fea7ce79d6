"""GPU results equal CPU results within the documented precision."""

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DeviceMemoryError
from mmsearch.core.types import EncoderOptions, IndexSpec, InputKind
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders import starter
from mmsearch.vector_indexes import exact, faiss_flat
from tests.clip_checkpoints import tiny_variant

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_a_gpu():
    faiss = pytest.importorskip("faiss")
    torch = pytest.importorskip("torch")
    if not faiss.get_num_gpus():
        pytest.skip("FAISS finds no NVIDIA GPU on this machine")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no NVIDIA GPU on this machine")


@pytest.mark.parametrize("k", [1, 15, 2048, 4000])
def test_faiss_flat_on_gpu_returns_same_neighbours_as_cpu(k):
    rng = np.random.default_rng(0)
    vectors = as_unit_vectors(rng.standard_normal((5000, 256)))
    vectors[100:4000:13] = vectors[100]
    queries = np.vstack([as_unit_vectors(rng.standard_normal((5, 256))), vectors[100:101]])
    ids = np.arange(5000, dtype=np.int64) * 2
    gpu = faiss_flat.build(IndexSpec("faiss_flat", 256, "auto"), [(ids, vectors)])
    cpu = faiss_flat.build(IndexSpec("faiss_flat", 256, "cpu"), [(ids, vectors)])
    truth = exact.build(IndexSpec("exact", 256, "cpu"), [(ids, vectors)])
    assert (gpu.device, cpu.device) == ("cuda", "cpu")
    found = gpu.search(queries, k)
    np.testing.assert_array_equal(found.ids, cpu.search(queries, k).ids)
    np.testing.assert_array_equal(found.scores, cpu.search(queries, k).scores)
    np.testing.assert_allclose(
        found.scores, truth.search(queries, k).scores, atol=gpu.score_tolerance
    )
    allowed = ids[rng.random(5000) < 0.3]
    np.testing.assert_array_equal(
        gpu.search(queries, k, allowed).ids, cpu.search(queries, k, allowed).ids
    )


@pytest.mark.parametrize("name", ["starter", "open_clip"])
def test_encoder_on_gpu_gives_nearly_same_image_vectors_as_cpu(name, photos, cache, tmp_path):
    from mmsearch.encoders import open_clip

    variant = "" if name == "starter" else tiny_variant(tmp_path)
    build = starter.build if name == "starter" else open_clip.build
    cpu, gpu = (build(EncoderOptions(variant, device, cache, True)) for device in ("cpu", "cuda"))
    assert gpu.device(InputKind.IMAGE) == "torch on cuda"
    assert gpu.spec.fingerprint == cpu.spec.fingerprint
    batch = []
    for path in sorted((photos / "photos").iterdir())[:40]:
        with Image.open(path) as image:
            batch.append(cpu.prepare(InputKind.IMAGE, np.asarray(image.convert("RGB"))))
    likeness = np.sum(
        cpu.encode(InputKind.IMAGE, batch) * gpu.encode(InputKind.IMAGE, batch), axis=1
    )
    assert likeness.min() > 0.99


@pytest.fixture
def allowed_bytes():
    """Function that limits the GPU memory that torch may use, in bytes."""
    import torch

    whole = torch.cuda.get_device_properties(0).total_memory

    def allow(count):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, count / whole))

    yield allow
    allow(whole)


def test_encoder_batch_exceeding_gpu_memory_is_split_or_refused(photos, cache, allowed_bytes):
    import torch

    encoder = starter.build(EncoderOptions("", "cuda", cache, True))
    with Image.open(min((photos / "photos").iterdir())) as image:
        batch = [encoder.prepare(InputKind.IMAGE, np.asarray(image.convert("RGB")))] * 512
    encoder.encode(InputKind.IMAGE, batch[:1])
    torch.cuda.empty_cache()
    weights = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    few = encoder.encode(InputKind.IMAGE, batch[:16])
    allowed_bytes(2 * torch.cuda.max_memory_reserved())
    many = encoder.encode(InputKind.IMAGE, batch)
    assert many.shape == (512, encoder.spec.dim)
    assert (many @ few[0]).min() > 0.999
    allowed_bytes(weights)
    with pytest.raises(DeviceMemoryError, match="one picture does not fit"):
        encoder.encode(InputKind.IMAGE, batch[:1])
    assert torch.cuda.memory_reserved() <= weights
    allowed_bytes(80 * 2**30)
    assert (encoder.encode(InputKind.IMAGE, batch[:1]) @ few[0]).min() > 0.999
