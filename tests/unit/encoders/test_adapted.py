"""Adapted models: their files, and the copies that the model cache keeps."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

import mmsearch
from mmsearch.core import plugins
from mmsearch.core.errors import MMSearchError, VectorError
from mmsearch.core.types import Calibration, EncoderOptions, InputKind
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders import _adapter, adapted
from tests.toy_index import ToyEncoder

BASE = replace(ToyEncoder.spec, name="starter")
DIM = BASE.dim
EYE = np.eye(DIM, dtype=np.float32)
METADATA = {"base": "starter", "base_fingerprint": BASE.fingerprint}


class Base(ToyEncoder):
    spec = BASE
    calibration = Calibration(measured=True)
    languages = ("en",)
    released = ()

    def release(self, kind):
        self.released = (*self.released, kind)


@pytest.fixture(autouse=True)
def base(monkeypatch):
    """The toy encoder, in the place of starter."""
    base, load = Base(), plugins.load
    stand_in = SimpleNamespace(build=lambda options: base)
    monkeypatch.setattr(
        plugins, "load", lambda folder, name: stand_in if name == "starter" else load(folder, name)
    )
    return base


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.safetensors"


@pytest.fixture
def options(path, tmp_path):
    return EncoderOptions(str(path), "cpu", tmp_path / "cache")


def random_arrays(seed=0, dim=10):
    rng = np.random.default_rng(seed)
    image, text = rng.standard_normal((2, dim, DIM))
    return {"image": image, "text": text, "image_bias": rng.standard_normal(dim)}


def unit_rows(count, seed=1):
    return as_unit_vectors(np.random.default_rng(seed).standard_normal((count, DIM)))


def write(path, **arrays):
    _adapter.write_adapter(path, BASE, **(arrays or random_arrays()))


def test_vectors_are_mapped_and_scaled_to_norm_1(path, options, base):
    arrays = random_arrays()
    write(path, **arrays)
    encoder = adapted.build(options)
    assert encoder.spec.name == f"adapted:{path}"
    assert encoder.spec.dim == 10
    for kind, bias in (("image", arrays["image_bias"]), ("text", 0)):
        items = [base.prepare("text", text) for text in ("a", "b", "c")]
        expected = as_unit_vectors(base.encode(kind, items) @ arrays[kind].T + bias)
        vectors = encoder.encode(InputKind(kind), items)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_derived_vectors_do_not_depend_on_the_batch(path, options):
    write(path)
    encoder, rows = adapted.build(options), unit_rows(50)
    together = encoder.derive(InputKind.IMAGE, rows)
    alone = [encoder.derive(InputKind.IMAGE, row[None])[0] for row in rows]
    assert np.array_equal(together, np.stack(alone))
    assert encoder.derive(InputKind.TEXT, rows[:0]).shape == (0, 10)


def test_vector_that_is_mapped_to_zero_is_an_error(path, options):
    write(path, image=EYE[:1], text=EYE[:1])
    with pytest.raises(VectorError, match="maps a vector to zero"):
        adapted.build(options).derive(InputKind.IMAGE, EYE[5:6])


def test_only_the_identity_keeps_the_calibration(path, options, base):
    write(path, image=EYE, text=EYE)
    assert adapted.build(options).calibration is base.calibration
    for other in ({"text": EYE[::-1]}, {"text_bias": EYE[0]}):
        path.unlink()
        write(path, **({"image": EYE, "text": EYE} | other))
        assert not adapted.build(options).calibration.measured


def test_the_rest_is_that_of_the_base(path, options, base):
    write(path)
    encoder = adapted.build(options)
    assert (encoder.prompts, encoder.languages) == (base.prompts, ("en",))
    assert encoder.batch_size == base.batch_size
    assert encoder.device(InputKind.TEXT) == "toy"
    assert encoder.dropped_tokens("a " * 20) == 4
    assert np.array_equal(encoder.prepare_query("dog"), base.prepare("text", "dog"))
    base.prepare_query = lambda text: f"query {text}"
    assert encoder.prepare_query("dog") == "query dog"
    encoder.release(InputKind.IMAGE)
    assert base.released == (InputKind.IMAGE,)


def test_fingerprint_follows_base_and_file(path, options, base):
    write(path)
    first = adapted.build(options).spec.fingerprint
    other_path = path.with_name("other.safetensors")
    write(other_path)
    assert adapted.build(replace(options, variant=str(other_path))).spec.fingerprint == first
    path.unlink()
    write(path, **random_arrays(seed=2))
    assert adapted.build(options).spec.fingerprint != first


# --- copies in the model cache ---


def test_kept_copy_serves_after_the_file_is_gone(path, options):
    write(path)
    encoder = adapted.build(options)
    path.unlink()
    by_fingerprint = replace(options, fingerprint=encoder.spec.fingerprint)
    for again in (adapted.build(by_fingerprint), adapted.build(options)):
        assert again.spec == encoder.spec
        rows = unit_rows(3)
        assert np.array_equal(again.derive("text", rows), encoder.derive("text", rows))


def test_index_keeps_its_adapter_after_another_one_has_replaced_the_file(path, options):
    write(path)
    fingerprint = adapted.build(options).spec.fingerprint
    path.unlink()
    write(path, **random_arrays(seed=2))
    assert adapted.build(options).spec.fingerprint != fingerprint
    kept = adapted.build(replace(options, fingerprint=fingerprint))
    assert kept.spec.fingerprint == fingerprint


def test_damaged_copy_is_replaced_from_the_file(path, options):
    write(path)
    encoder = adapted.build(options)
    (copy,) = (options.cache / "models").glob("adapted-*/*.safetensors")
    by_fingerprint = replace(options, fingerprint=encoder.spec.fingerprint)
    for damaged in (copy.read_bytes()[:-1] + b"\x40", b"junk"):
        copy.write_bytes(damaged)
        assert adapted.build(by_fingerprint).spec == encoder.spec
        assert copy.read_bytes() == path.read_bytes()
    copy.write_bytes(copy.read_bytes()[:-1] + b"\x40")
    path.unlink()
    with pytest.raises(MMSearchError, match="the model cache has no copy"):
        adapted.build(by_fingerprint)


def test_models_are_those_that_the_cache_keeps(path, options):
    assert adapted.models(options) == []
    write(path)
    adapted.build(options)
    (model,) = adapted.models(options)
    assert (model.name, model.dim) == (f"adapted:{path}", 10)
    assert model.summary == "starter with a linear map of its vectors"
    (description,) = (options.cache / "models").glob("adapted-*/*.json")
    description.write_text("[1]")
    assert adapted.models(options) == []


# --- files that are not adapters ---

NOT_FINITE = np.where(EYE, np.float32("nan"), EYE)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is not a .safetensors file"),
        (b"\x80\x05K\x01.", "it is not a .safetensors file"),
        (save({"image": EYE, "text": EYE}, METADATA)[:-4], "it is not a .safetensors file"),
        (save({"image": EYE, "text": EYE}), "its metadata do not name the base model"),
        (save({"image": EYE}, METADATA), "it has no matrix 'text'"),
        (save({"text": EYE, "image": EYE[0]}, METADATA), "'image' must have 1 to 4,096 rows"),
        (save({"text": EYE[:0], "image": EYE[:0]}, METADATA), "'image' must have 1 to 4,096 rows"),
        (save({"image": EYE, "text": EYE[:5]}, METADATA), r"'text' must have the shape \(48, 48\)"),
        (
            save({"image": EYE, "text": EYE, "text_bias": EYE}, METADATA),
            r"'text_bias' must have the shape \(48,\)",
        ),
        (save({"image": EYE, "text": EYE, "bias": EYE}, METADATA), "the array 'bias' is unknown"),
        (
            save({"image": EYE, "text": EYE.astype(np.float64)}, METADATA),
            "'text' has the type F64, not float32",
        ),
        (save({"image": NOT_FINITE, "text": EYE}, METADATA), "'image' has a value that is not fin"),
        (save({"image": EYE, "text": 1e7 * EYE}, METADATA), "'text' has a value above 1,000,000"),
        (save({"image": 0 * EYE, "text": EYE}, METADATA), "'image' has only zeros"),
    ],
)
def test_file_that_is_not_an_adapter_is_named_with_the_problem(path, options, content, problem):
    path.write_bytes(content)
    with pytest.raises(MMSearchError, match=f"is not an adapter: {problem}") as caught:
        adapted.build(options)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert adapted.models(options) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"base_fingerprint": "0" * 16}, "for other weights or another version of 'starter'"),
        ({"base": "adapted:mine.safetensors"}, "which is not a model that can be adapted"),
        ({"base": "nothing"}, "which is not a model that can be adapted"),
    ],
)
def test_adapter_of_another_base_is_refused(path, options, metadata, message):
    path.write_bytes(save({"image": EYE, "text": EYE}, METADATA | metadata))
    with pytest.raises(MMSearchError, match=message) as caught:
        adapted.build(options)
    assert caught.value.hint


def test_adapter_of_other_dimensions_is_refused(path, options):
    small = np.ascontiguousarray(EYE[:, :5])
    path.write_bytes(save({"image": small, "text": small}, METADATA))
    with pytest.raises(MMSearchError, match="takes vectors of 5 dimensions, but those of 'starter"):
        adapted.build(options)


def test_file_that_cannot_be_read_is_named(path, options, tmp_path, monkeypatch):
    with pytest.raises(MMSearchError, match=r"There is no adapter .*mine\.safetensors") as caught:
        adapted.build(options)
    assert "mmsearch reindex --model adapted:NEW_PATH" in caught.value.command_text
    with pytest.raises(MMSearchError, match="names no adapter"):
        adapted.build(replace(options, variant=""))
    with pytest.raises(MMSearchError, match="is a folder, not an adapter"):
        adapted.build(replace(options, variant=str(tmp_path)))
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(MMSearchError, match="is a named pipe, not an adapter"):
            adapted.build(options)
        path.unlink()
    monkeypatch.setattr(_adapter, "MAX_BYTES", 1000)
    write(path)
    with pytest.raises(MMSearchError, match="it has more than 1,000 bytes"):
        adapted.build(options)


# --- save_adapter ---


def test_save_adapter_returns_the_name_of_the_model(path, options, tmp_path):
    settings = mmsearch.Settings(cache=tmp_path / "cache")
    arrays = random_arrays()
    assert mmsearch.save_adapter(path, BASE, **arrays) == f"adapted:{path}"
    model = mmsearch.open_model(f"adapted:{path}", settings=settings)
    other = path.with_name("other.safetensors")
    float16 = {name: array.astype(np.float16).tolist() for name, array in arrays.items()}
    name = mmsearch.save_adapter(other, "starter", **float16, settings=settings)
    rows = unit_rows(4)
    np.testing.assert_allclose(
        mmsearch.open_model(name, settings=settings).derive("image", rows),
        model.derive("image", rows),
        atol=0.01,
    )
    header_size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + header_size])
    assert header["__metadata__"] == METADATA


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "eye"}, "image must be an array of numbers"),
        ({"image": [[1, 2], [3]]}, "image must be an array of numbers"),
        ({"text": None}, "it has no matrix 'text'"),
        ({"text": EYE[:3]}, r"'text' must have the shape \(48, 48\), got \(3, 48\)"),
        ({"image": EYE[:, :3], "text": EYE[:, :3]}, "'image' has 3 columns, but the vectors of"),
        ({"text": 1e300 * EYE.astype(np.float64)}, "'text' has a value that is not finite"),
        ({"image_bias": EYE[:3, 0]}, r"'image_bias' must have the shape \(48,\)"),
        ({"base": 5}, "base must be the name of a model or an EncoderSpec, got int"),
        ({"base": replace(BASE, name="adapted:x")}, "is an adapted model itself"),
        ({"path": "mine.npz"}, "must end with .safetensors"),
        ({"path": "/nonexistent/mine.safetensors"}, "There is no folder /nonexistent"),
        ({"path": 5}, "path must be a path"),
    ],
)
def test_save_adapter_names_what_is_wrong(path, changes, message):
    arguments = {"path": path, "base": BASE, "image": EYE, "text": EYE} | changes
    with pytest.raises(mmsearch.UsageError, match=message) as caught:
        mmsearch.save_adapter(**arguments)
    assert caught.value.hint
    assert not path.exists()


def test_save_adapter_replaces_no_file(path):
    path.write_text("mine")
    with pytest.raises(mmsearch.UsageError, match=r"mine\.safetensors exists"):
        mmsearch.save_adapter(path, BASE, EYE, EYE)
    assert path.read_text() == "mine"


def test_export_of_an_adapted_model_says_what_to_copy(path, tmp_path):
    write(path)
    settings = mmsearch.Settings(cache=tmp_path / "cache")
    with pytest.raises(mmsearch.UsageError, match="Export its base model, and copy the adapter"):
        mmsearch.export_model(tmp_path / "model.tar", f"adapted:{path}", settings=settings)
