"""Queries that a vector index is tuned on."""

import numpy as np

from mmsearch.core.results import IndexRequest
from mmsearch.core.types import SearchGoals, TextSource
from mmsearch.factories import catalogs
from mmsearch.indexing.tuning_queries import (
    NUM_TUNING_QUERIES,
    encode_queries,
    sample_tuning_queries,
    synthetic_queries,
)
from mmsearch.maintenance.calibrate import sample_texts
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyEncoder, toy_indexer


def test_synthetic_queries_are_distinct_and_deterministic():
    some = synthetic_queries(3000)
    assert len(set(some)) == 3000
    assert some == synthetic_queries(3000)
    assert synthetic_queries(100) == some[:100]
    assert not [text for text in some if "{" in text or "  " in text]


def test_tuning_queries_mix_captions_of_index_with_synthetic_queries(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(40):
        (photos / f"{number}.toy").write_text(str(number))
        (photos / f"{number}.toy.txt").write_text(f"caption number {number}")
    layout = IndexLayout(tmp_path / "index")
    with toy_indexer(layout, sources=(TextSource.SIDECAR,)) as indexer:
        indexer.run(IndexRequest(bytes(photos)))
    with catalogs.open_read(layout) as catalog:
        texts = sample_tuning_queries(catalog)
    assert len(texts) == NUM_TUNING_QUERIES
    assert sum(text.startswith("caption number") for text in texts) == 40
    # Both kinds alternate, so that any part contains both.
    assert any(text.startswith("caption number") for text in texts[:500])


def test_samples_have_captions_of_pictures_beside_long_films(tmp_path, monkeypatch):
    monkeypatch.setattr("mmsearch.maintenance.calibrate.PAGE_SIZE", 2)
    monkeypatch.setattr("mmsearch.maintenance.calibrate.MAX_PAGES", 40)
    # Each film is a shard of its own.
    monkeypatch.setattr("mmsearch.indexing.run.MAX_SHARD_BYTES", 1)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(60):
        (photos / f"{number:02}.toy").write_text(str(number))
        (photos / f"{number:02}.toy.txt").write_text(f"caption number {number}")
    layout = IndexLayout(tmp_path / "index")
    with toy_indexer(layout, sources=(TextSource.SIDECAR,)) as indexer:
        indexer.run(IndexRequest(bytes(photos)))
        for number in range(20):
            (photos / f"{number:02}.film").write_text(f"film\nmoment {number}|")
        indexer.run(IndexRequest(bytes(photos)))
        # The ids of the films are far apart.
        assert indexer.catalog.next_free_ids()[0] > 50_000
        texts = sample_tuning_queries(indexer.catalog)
        assert sum(text.startswith("caption number") for text in texts) == 60
        assert len(sample_texts(indexer.catalog)) > 20


def test_encode_queries_returns_vectors_in_order_of_texts():
    encoder = ToyEncoder()
    texts = synthetic_queries(150)
    together = encode_queries(encoder, texts)
    for place in (0, 63, 64, 149):
        alone = encode_queries(encoder, texts[place : place + 1])
        np.testing.assert_allclose(together[place : place + 1], alone, atol=1e-6)


def test_catalog_identity_stores_search_goals(tmp_path):
    layout = IndexLayout(tmp_path / "index")
    with toy_indexer(layout) as indexer:
        indexer._ensure_identity()
        bound = indexer.catalog.identity()
        assert bound.goals == SearchGoals()
        from dataclasses import replace

        goals = SearchGoals(0.9, 100.0, None)
        indexer.catalog.set_identity(replace(bound, goals=goals))
        assert indexer.catalog.identity().goals == goals
