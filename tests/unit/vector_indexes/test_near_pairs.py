import numpy as np
import pytest

from mmsearch.core.vectors import as_unit_vectors
from mmsearch.vector_indexes import _near_pairs
from mmsearch.vector_indexes._near_pairs import cell_pairs, hash_pairs


def random_hashes(count, seed=0):
    """Return hashes of which each second one differs from the one before in 0 to 11 bits."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(-(2**63), 2**63, count, dtype=np.int64)
    for row in range(1, count, 2):
        flipped = rng.choice(64, row // 2 % 12, replace=False)
        bits = np.bitwise_xor.reduce(np.uint64(1) << flipped.astype(np.uint64), initial=0)
        hashes[row] = hashes[row - 1] ^ np.uint64(bits).astype(np.int64)
    return hashes


def as_pairs(found):
    return sorted(
        (int(left), int(right))
        for lefts, rights in found
        for left, right in zip(lefts, rights, strict=True)
    )


@pytest.mark.parametrize("distance", [2, 7])
@pytest.mark.parametrize("is_large", [False, True])
def test_hash_pairs_are_those_of_all_comparisons(monkeypatch, distance, is_large):
    if is_large:
        monkeypatch.setattr(_near_pairs, "MAX_FLAT_COMPARISONS", 0)
    hashes = random_hashes(500)
    queries = hashes[::3]
    differences = (queries[:, None] ^ hashes[None, :]).view(np.uint64)
    near = np.bitwise_count(differences) <= distance
    assert as_pairs(hash_pairs(queries, hashes, distance)) == as_pairs([np.nonzero(near)])


def test_cell_pairs_are_nearly_those_of_all_comparisons():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((600, 32))
    vectors = as_unit_vectors(np.repeat(centres, 5, axis=0) + 0.1 * rng.standard_normal((3000, 32)))
    found = set(as_pairs(cell_pairs(len(vectors), vectors.__getitem__, 0.95)))
    wanted = set(as_pairs([np.nonzero(np.triu(vectors @ vectors.T >= 0.95, 1))]))
    assert found <= wanted
    assert len(found) >= 0.98 * len(wanted)


def test_cell_pairs_of_few_rows_are_all():
    vectors = as_unit_vectors(np.ones((4, 3), dtype=np.float32))
    found = cell_pairs(4, vectors.__getitem__, 0.9)
    assert len(as_pairs(found)) == 6
