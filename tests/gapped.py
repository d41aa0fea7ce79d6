"""Vectors with a modality gap: texts lie where no picture does, and look at few of its traits."""

import numpy as np

from mmsearch.core.vectors import as_unit_vectors

DIM, SHARED = 96, 16


def gapped(n, queries, seed=0, dim=DIM):
    """(n, dim) pictures and (queries, dim) texts of one space, different ones for each seed."""
    basis = np.linalg.qr(np.random.default_rng(99).standard_normal((dim, dim)))[0]
    shared, own, told, ends = np.split(basis[: 2 * SHARED + 34], [SHARED, SHARED + 16, SHARED + 32])
    random = np.random.default_rng(seed)

    def some(count, detail, offset):
        meaning = random.standard_normal((count, SHARED)) @ shared
        noise = random.standard_normal((count, 16)) @ detail
        rest = random.standard_normal((count, dim)) * 0.1
        return as_unit_vectors(0.45 * meaning + 0.75 * noise + 2 * offset + rest)

    return some(n, own, ends[0]), some(queries, told, ends[1])
