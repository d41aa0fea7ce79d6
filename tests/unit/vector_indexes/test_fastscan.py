"""Approximate search: recall, order, filters, damage, and the fallback to exact search."""

import numpy as np
import pytest

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.types import IndexSpec, TrainingData
from mmsearch.vector_indexes import _fastscan, _tuning, exact, faiss_fastscan
from tests.modality_gap import DIM, modality_gap_vectors

N = 12_000
ROWS, TRAINING = modality_gap_vectors(N, 2000)
_, TEXTS = modality_gap_vectors(1, 60, seed=7)
IDS = np.arange(N, dtype=np.int64) * 2 + 5
SPEC = IndexSpec("faiss_fastscan", DIM, "cpu")


def blocks(order=slice(None)):
    ids, rows = IDS[order], ROWS[order]
    return [(ids[start : start + 3000], rows[start : start + 3000]) for start in range(0, N, 3000)]


@pytest.fixture(scope="module")
def truth():
    return exact.build(IndexSpec("exact", DIM, "cpu"), blocks())


@pytest.fixture(scope="module", params=["flat codes", "lists"])
def index_file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("fastscan") / "ann" / "1.vectors"
    path.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "lists":
            patch.setattr(_fastscan, "MIN_ROWS_FOR_LISTS", 1000)
        file_ref = faiss_fastscan.write(SPEC, blocks(), path, TrainingData(TRAINING))
    return path, file_ref, request.param


@pytest.fixture
def index(index_file):
    path, file_ref, _ = index_file
    return faiss_fastscan.load(SPEC, path, file_ref)


def mean_recall(found, true):
    pairs = zip(found.ids, true.ids, strict=True)
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])


def test_fastscan_stats_report_measured_recall_and_depth(index, index_file):
    stats = index.stats
    assert bool(stats["lists"]) == (index_file[2] == "lists")
    assert 0.95 <= stats["recall"] <= 1
    assert stats["recall_low"] <= stats["recall"] <= stats["recall_high"]
    assert stats["depth"] < N / 4
    assert stats["queries"] == 500
    assert stats["training_queries"] == 1000


def test_fastscan_search_unseen_text_queries_reaches_recall(index, truth):
    assert mean_recall(index.search(TEXTS, 10), truth.search(TEXTS, 10)) >= 0.93
    assert mean_recall(index.search(TEXTS, 200), truth.search(TEXTS, 200)) >= 0.93


def test_fastscan_search_returns_true_scores_in_descending_order(index):
    for k in (1, 10, 20, 21, 300, 1000):
        found = index.search(TEXTS[:5], k)
        for row in range(5):
            true = ROWS[(found.ids[row] - 5) // 2] @ TEXTS[row]
            np.testing.assert_allclose(found.scores[row], true, atol=index.score_tolerance)
            assert (np.diff(found.scores[row]) <= 0).all()
            assert len(set(found.ids[row].tolist())) == k


@pytest.mark.parametrize("pages", [(1, 5, 15, 20), (21, 100, 999, 1000)])
def test_fastscan_search_small_k_returns_prefix_of_large_k(index, pages):
    long = index.search(TEXTS, pages[-1]).ids
    for k in pages[:-1]:
        np.testing.assert_array_equal(index.search(TEXTS, k).ids, long[:, :k])


def test_fastscan_search_single_query_matches_batch(index):
    all_results = index.search(TEXTS, 10)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(index.search(text[None], 10).ids[0], all_results.ids[row])


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.05, 0.001])
def test_fastscan_search_with_filter_returns_k_allowed_ids_at_full_recall(index, truth, share):
    allowed = IDS[np.random.default_rng(2).random(N) < share]
    found = index.search(TEXTS, 10, allowed)
    assert set(found.ids.ravel().tolist()) <= set(allowed.tolist())
    assert mean_recall(found, truth.search(TEXTS, 10, allowed)) >= 0.93


def test_fastscan_search_distant_allowed_rows_matches_exact_scores(index, truth):
    worst = truth.search(TEXTS[:1], N).ids[0][::-1]
    allowed = np.sort(worst[:6000])
    found, true = (one.search(TEXTS[:1], 10, allowed) for one in (index, truth))
    np.testing.assert_allclose(found.scores, true.scores, atol=1e-3)


def test_fastscan_search_k_above_thousand_matches_exact_scores(index, truth):
    found, true = (one.search(TEXTS[:3], 1500) for one in (index, truth))
    np.testing.assert_allclose(found.scores, true.scores, atol=1e-3)


def test_fastscan_spare_results_come_from_the_candidates_of_k(index, monkeypatch):
    fetched = []
    find = _fastscan.FastScanCodes.find_candidates

    def find_candidates(codes, queries, depth, *nprobe):
        fetched.append(depth)
        return find(codes, queries, depth, *nprobe)

    monkeypatch.setattr(_fastscan.FastScanCodes, "find_candidates", find_candidates)
    short = index.search(TEXTS[:4], faiss_fastscan.SHORT_PAGE_MAX_K)
    longer = index.search(TEXTS[:4], faiss_fastscan.SHORT_PAGE_MAX_K, spare=5)
    assert set(fetched) == {index.stats["depth"]}
    np.testing.assert_array_equal(longer.ids[:, : short.ids.shape[1]], short.ids)
    assert (longer.ids >= 0).all()
    index.search(TEXTS[:4], faiss_fastscan.LONG_PAGE_MAX_K, spare=500)
    assert set(fetched) == {index.stats["depth"], faiss_fastscan.LONG_PAGE_DEPTH}


def test_fastscan_build_shuffled_blocks_sorts_ids_and_keeps_recall(truth):
    order = np.random.default_rng(3).permutation(N)
    index = faiss_fastscan.build(SPEC, blocks(order), TrainingData(TRAINING))
    np.testing.assert_array_equal(index.ids, IDS)
    assert "depth" in index.stats
    found = index.search(TEXTS, 10)
    assert mean_recall(found, truth.search(TEXTS, 10)) >= 0.93
    true = ROWS[(found.ids[0] - 5) // 2] @ TEXTS[0]
    np.testing.assert_allclose(found.scores[0], true, atol=1e-3)


def test_fastscan_search_reading_damaged_row_raises_damaged_file_error(index_file, tmp_path):
    path, file_ref, _ = index_file
    sound = faiss_fastscan.load(SPEC, path, file_ref)
    best = int(sound.search(TEXTS[:1], 1).ids[0, 0] - 5) // 2
    content = bytearray(path.read_bytes())
    content[best * DIM * 2 + 11] ^= 16
    copy = tmp_path / "1.vectors"
    copy.write_bytes(content)
    index = faiss_fastscan.load(SPEC, copy, file_ref)
    with pytest.raises(DamagedFileError, match="checksum"):
        index.search(TEXTS[:1], 1)


def test_fastscan_exhaustive_search_of_damaged_file_raises_error(index_file, tmp_path):
    path, file_ref, _ = index_file
    content = bytearray(path.read_bytes())
    content[N * DIM] ^= 16
    copy = tmp_path / "1.vectors"
    copy.write_bytes(content)
    with pytest.raises(DamagedFileError, match="checksum"):
        faiss_fastscan.load(SPEC, copy, file_ref).search(TEXTS[:1], 1500)


def test_fastscan_build_unreachable_memory_goal_falls_back_to_exact(truth):
    low_memory_training = TrainingData(TRAINING, memory_bytes=1000)
    index = faiss_fastscan.build(SPEC, blocks(), low_memory_training)
    assert index.stats == {"recall": 1.0}
    found, true = (one.search(TEXTS, 10) for one in (index, truth))
    np.testing.assert_allclose(found.scores, true.scores, atol=1e-3)


def test_fastscan_build_memory_goal_limits_code_bytes():
    def dims(memory_bytes):
        index = faiss_fastscan.build(SPEC, blocks(), TrainingData(TRAINING, 0.9, memory_bytes))
        return index.stats.get("code_bytes", 0)

    assert 0 < dims(N * 40) <= N * 40


def test_fastscan_build_higher_recall_goal_is_reached(truth):
    index = faiss_fastscan.build(SPEC, blocks(), TrainingData(TRAINING, 0.995))
    assert index.stats["recall"] >= 0.985
    assert mean_recall(index.search(TEXTS, 10), truth.search(TEXTS, 10)) >= 0.98


def test_fastscan_build_many_equal_rows_keeps_measured_recall():
    rows = ROWS.copy()
    rows[:3000] = rows[0]
    some = [(IDS, rows)]
    index = faiss_fastscan.build(SPEC, some, TrainingData(TRAINING))
    assert index.stats["recall"] >= 0.94


def test_fastscan_build_too_few_training_queries_falls_back_to_exact():
    assert faiss_fastscan.build(SPEC, blocks(), TrainingData(TRAINING[:3])).stats == {"recall": 1.0}


def test_choose_num_lists_returns_capped_power_of_two_for_large_collections():
    assert _fastscan.choose_num_lists(1_000_000) == 0
    assert _fastscan.choose_num_lists(10_000_000) == 4096
    assert _fastscan.choose_num_lists(10**9) == _fastscan.MAX_LISTS


def test_candidate_depths_and_nprobes_ascend_to_number_of_lists():
    assert list(_tuning.CANDIDATE_DEPTHS) == sorted(_tuning.CANDIDATE_DEPTHS)
    assert _tuning._nprobe_candidates(0) == [0]
    assert _tuning._nprobe_candidates(1024)[-1] == 1024
