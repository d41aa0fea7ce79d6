"""Every module of the benchmarks can be imported, and those that name parts of the package run."""

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_path():
    added = [str(ROOT), str(ROOT / "scripts")]
    sys.path[:0] = added
    yield
    for folder in added:
        sys.path.remove(folder)


def module_names():
    folder = ROOT / "benchmarks"
    return sorted(
        module.name
        for module in pkgutil.walk_packages([str(folder)], "benchmarks.")
        if "film_plugin" not in module.name
    )


@pytest.mark.parametrize("name", module_names())
def test_module_of_benchmarks_is_imported(name):
    importlib.import_module(name)


def test_all_parts_measure_and_write_their_page():
    parts = importlib.import_module("benchmarks.__main__").PARTS
    assert parts
    for part in parts.values():
        assert callable(part.measure)
        assert callable(part.page)


def test_benchmark_of_catalog_reads_the_same_records_one_by_one(monkeypatch, tmp_path):
    metadata = importlib.import_module("benchmarks.speed.metadata")
    for name, value in {"PICTURES": 300, "COUNTS": (10,), "ROUNDS": 1, "machine": dict}.items():
        monkeypatch.setattr(metadata, name, value)
    results = metadata.measure(tmp_path, tmp_path)
    assert [row["guard"] for row in results["rows"]] == ["10 the same"]
    assert [row["recall"] for row in results["filters"]] == [1, 1]
    assert "10 the same" in metadata.page(results)


def test_benchmark_of_negative_terms_changes_their_weight(monkeypatch):
    queries = importlib.import_module("benchmarks.quality.queries")
    weights = []

    class Index:
        def search(self, query, k, **options):
            weights.append((queries.retrieval.NEGATIVE_WEIGHT, len(query.terms)))
            return []

    monkeypatch.setattr(queries, "NUM_PAIRS", 1)
    rows = queries._measure_negatives(ROOT / "tests/photos", Index())
    assert weights == [(share, 2 if share else 1) for share in queries.NEGATIVE_SHARES]
    assert [row["found"][0] for row in rows] == [0.0] * len(weights)
