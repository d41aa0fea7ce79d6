"""Vectors with a modality gap: texts lie apart from pictures and share few of their traits."""

import numpy as np

from mmsearch.core.vectors import as_unit_vectors

DIM, SHARED = 96, 16


def modality_gap_vectors(n, queries, seed=0, dim=DIM):
    """Return (n, dim) pictures and (queries, dim) texts of one space, which depend on the seed."""
    basis = np.linalg.qr(np.random.default_rng(99).standard_normal((dim, dim)))[0]
    shared_basis, picture_detail, text_detail, offsets = np.split(
        basis[: 2 * SHARED + 34], [SHARED, SHARED + 16, SHARED + 32]
    )
    random = np.random.default_rng(seed)

    def make_vectors(count, detail, offset):
        meaning = random.standard_normal((count, SHARED)) @ shared_basis
        noise = random.standard_normal((count, 16)) @ detail
        isotropic = random.standard_normal((count, dim)) * 0.1
        return as_unit_vectors(0.45 * meaning + 0.75 * noise + 2 * offset + isotropic)

    return make_vectors(n, picture_detail, offsets[0]), make_vectors(
        queries, text_detail, offsets[1]
    )
