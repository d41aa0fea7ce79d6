"""``mmsearch reindex --model adapted:FILE`` derives a space from stored vectors."""

import json
import shutil

import numpy as np
import pytest

import mmsearch as library

pytestmark = pytest.mark.e2e


@pytest.fixture
def collection(photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((photos / "photos").glob("*.jpg"))[:6]:
        shutil.copy(path, folder)
        (folder / path.name).with_suffix(".txt").write_text(f"caption of {path.stem}")
    return folder


@pytest.fixture
def adapter(tmp_path):
    spec = library.open_model("starter").spec
    maps = np.eye(spec.dim) + 0.01 * np.random.default_rng(0).normal(size=(2, spec.dim, spec.dim))
    library.save_adapter(tmp_path / "mine.safetensors", spec, *maps[:, :500])
    return tmp_path / "mine.safetensors"


def test_adapter_is_applied_without_the_pictures(mmsearch, collection, adapter, tmp_path):
    home = ("--home", tmp_path / "home")
    mmsearch("index", collection, *home, "--model", "starter")
    away = collection.rename(tmp_path / "away")
    done = mmsearch("reindex", "--model", f"adapted:{adapter.name}", *home, cwd=tmp_path)
    expected = "6 pictures, 12 vectors derived from stored ones, nothing decoded: fusion image"
    assert done.out.startswith(expected)
    assert f"adapted:{adapter}, 500 columns" in mmsearch("status", *home).out
    assert f"adapted:{adapter}" in mmsearch("models", "list").out
    adapter.rename(tmp_path / "moved.safetensors")
    found = json.loads(mmsearch("query", "a photograph", "--json", *home).out)
    assert (len(found["hits"]), found["encoder"]) == (6, f"adapted:{adapter}")
    mmsearch("check", *home)
    again = mmsearch("reindex", "--model", f"adapted:{tmp_path / 'moved.safetensors'}", *home)
    assert again.out.startswith("6 pictures: fusion image")
    assert "moved.safetensors, 500 columns" in mmsearch("status", *home).out
    away.rename(collection)
    back = mmsearch("reindex", "--model", "starter", *home)
    assert back.out.startswith("6 pictures, re-encoded: fusion image")


def test_wrong_adapter_leaves_the_index_and_says_what_is_wrong(mmsearch, collection, tmp_path):
    home = ("--home", tmp_path / "home")
    mmsearch("index", collection, *home, "--model", "starter")
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"PK\x03\x04")
    done = mmsearch("reindex", "--model", f"adapted:{wrong}", *home, code=1)
    assert done.err == (
        f"Error: {wrong} is not an adapter: it is not a .safetensors file. Write adapters with"
        " mmsearch.save_adapter.\n"
    )
    wrong.unlink()
    done = mmsearch("reindex", "--model", f"adapted:{wrong}", *home, code=1)
    assert done.err.startswith(f"Error: There is no adapter {wrong}")
    assert "encoder       starter" in mmsearch("status", *home).out


def test_report_in_json_counts_what_was_derived(mmsearch, collection, adapter, tmp_path):
    home = ("--home", tmp_path / "home")
    mmsearch("index", collection, *home, "--model", "starter")
    done = mmsearch("reindex", "--model", f"adapted:{adapter}", "--json", *home)
    report = json.loads(done.out)
    assert (report["derived"], report["decoded"], report["reencoded"]) == (12, 0, False)
