"""Choice of the vector index, and decisions on building and merging."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.identity import Identity
from mmsearch.core.types import EncoderSpec, FusionSpec, SearchGoals
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.indexing import build as module
from mmsearch.indexing.build import IndexBuilder, can_wait, needs_merge
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_indexes import faiss_fastscan
from tests.index_contents import store_vectors
from tests.modality_gap import DIM, modality_gap_vectors

ENCODER = EncoderSpec("gapped", DIM, "0" * 64, {}, 1, 16)
IDENTITY = Identity(ENCODER, FusionSpec(), "auto", ())
COUNT = 3000
ROWS, ASKED = modality_gap_vectors(COUNT, 1200)


@pytest.fixture(autouse=True)
def _codes_for_few_rows(monkeypatch):
    monkeypatch.setattr(faiss_fastscan, "MIN_ROWS_FOR_CODES", 1000)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    layout = IndexLayout(tmp_path_factory.mktemp("built") / "index")
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.set_identity(IDENTITY)
        store_vectors(layout, catalog, ENCODER, ROWS[:2000])
        store_vectors(layout, catalog, ENCODER, ROWS[2000:], 2001, 2)
        yield layout, catalog


def build(stored, goals=None, vector_index="auto", stale=(), gpu_bytes=0):
    layout, catalog = stored
    asked = []

    def encode_tuning_queries():
        asked.append(True)
        return ASKED

    builder = IndexBuilder(
        layout, load_vector_index_plugin, encode_tuning_queries, lambda: gpu_bytes
    )
    identity = replace(IDENTITY, vector_index=vector_index, goals=goals or SearchGoals())
    fusion = make_fusion(FusionSpec())
    stale_rows = {1: np.array(stale, dtype=np.int64)}
    built = builder.build(catalog.segments(), fusion, identity, stale_rows)
    return built, bool(asked)


def test_build_few_vectors_uses_exact_index_without_tuning_queries(stored):
    built, asked = build(stored)
    assert built.plugin_name == "faiss_flat"
    assert built.settings == {"dim": DIM, "recall": 1.0, "reason": "exact search"}
    assert (built.rows, built.covers, asked) == (COUNT, 2, False)


def test_build_many_vectors_uses_tuned_approximate_index(stored, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXACT_ROWS", COUNT - 1)
    built, asked = build(stored)
    assert built.plugin_name == "faiss_fastscan"
    assert asked
    assert built.settings["recall"] >= 0.94
    assert built.settings["reason"].startswith("recall@10 ")


def test_build_stale_rows_do_not_count_towards_exact_limit(stored, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXACT_ROWS", COUNT - 1)
    built, _ = build(stored, stale=[7])
    assert (built.plugin_name, built.rows) == ("faiss_flat", COUNT - 1)


def test_build_memory_goal_below_exact_size_uses_approximate_index(stored):
    exact_mb = COUNT * DIM * 2 / 1e6
    assert build(stored, SearchGoals(memory_mb=exact_mb))[0].plugin_name == "faiss_flat"
    built, _ = build(stored, SearchGoals(memory_mb=exact_mb * 0.99))
    assert built.plugin_name == "faiss_fastscan"
    assert built.settings["code_bytes"] <= exact_mb * 1e6


def test_build_latency_goal_met_by_exact_search_uses_exact_index(stored):
    assert build(stored, SearchGoals(latency_ms=10_000))[0].plugin_name == "faiss_flat"
    assert build(stored, SearchGoals(latency_ms=1e-6))[0].plugin_name == "faiss_fastscan"


def test_build_vectors_that_fit_gpu_memory_use_exact_index(stored, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXACT_ROWS", 10)
    size = COUNT * DIM * 2
    assert build(stored, gpu_bytes=size)[0].plugin_name == "faiss_fastscan"
    assert build(stored, gpu_bytes=int(size / 0.8))[0].plugin_name == "faiss_flat"


def test_build_named_vector_index_uses_that_plugin(stored):
    assert build(stored, vector_index="faiss_fastscan")[0].plugin_name == "faiss_fastscan"
    assert build(stored, vector_index="exact")[0].plugin_name == "exact"


def test_build_leaves_only_files_of_chosen_index(stored):
    layout, _ = stored
    before = {name for name, _ in layout.files()}
    built, _ = build(stored, SearchGoals(latency_ms=10_000))
    assert {name for name, _ in layout.files()} - before <= {built.file_ref.name}


@given(st.integers(0, 10**8), st.integers(0, 10**7))
def test_needs_merge_is_true_once_added_share_exceeds_limit(built, added):
    is_needed = needs_merge(built, added)
    if not added:
        assert not is_needed
    if added > 50_000 or added > 0.1 * built:
        assert is_needed == (added > 0)
    if is_needed:
        assert needs_merge(built, added + 1)


def test_needs_merge_is_false_for_few_additions_to_large_index():
    assert not needs_merge(1_000_000, 1000)
    assert needs_merge(40_000, 1)


@pytest.mark.parametrize(
    ("built", "rows", "segments", "expected"),
    [
        (0, 1, 1, False),
        (9, 1, 1, False),
        (10, 1, 1, True),
        (50_000, 64, 64, True),
        (50_000, 65, 65, False),
        (50_000, 5_001, 2, False),
    ],
)
def test_can_wait_while_additions_are_few(built, rows, segments, expected):
    assert can_wait(built, rows, segments) is expected
