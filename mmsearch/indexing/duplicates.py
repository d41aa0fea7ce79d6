"""Groups of near duplicates and bursts, brought up to date after a run.

New pictures are compared with all. Hashes of the look propose pairs, stored image vectors confirm
them, and of large additions cells of vectors propose those that a crop has moved too far apart for
their hashes. Similarities are relative to the index: 0 is the mean of two of its pictures, 1 is
equality, so that one table of thresholds serves encoders of different scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.duplicates import NO_TIME, DuplicateState, PictureLooks
from mmsearch.core.errors import DamagedFileError
from mmsearch.indexing.groups import update_groups
from mmsearch.storage.image_rows import ImageRows
from mmsearch.storage.layout import IndexLayout

RULES_VERSION: Final = 2
"""Version of the rules below and of the perceptual hash; another one makes all groups again."""

_NEVER: Final = 2.0


def _thresholds(*steps: tuple[int, float]) -> NDArray[np.float32]:
    """Return the least similarity by Hamming distance, from steps of ascending distances."""
    table = np.full(65, _NEVER, dtype=np.float32)
    for distance, similarity in reversed(steps):
        table[: distance + 1] = similarity
    return table


NEAR: Final = _thresholds(
    *((4, 0.20), (6, 0.35), (8, 0.50), (10, 0.65), (12, 0.74)),
    *((14, 0.80), (16, 0.82), (18, 0.84), (20, 0.86), (22, 0.88), (24, 0.90)),
)
"""Least similarity of near duplicates, by Hamming distance of their hashes."""

NEAR_ON_BACKGROUND: Final = _thresholds((4, 0.35))
"""The same if both have an even background, as windows and pictures of products have."""

MAX_DISTANCE: Final = 24
HASH_DISTANCE: Final = 10
CELL_SIMILARITY: Final = 0.6
"""Distance up to which hashes propose pairs of a large addition, and similarity from which cells of
vectors do."""

MAX_BURST_GAP_S: Final = 120
"""Seconds within which near duplicates of different times are a burst."""

SERIES_GAP_S: Final = 10
SERIES: Final = _thresholds((12, 0.70), (20, 0.78), (28, 0.86), (32, 0.92))
"""Least similarity of pictures taken within so few seconds, by Hamming distance of their hashes: to
point a camera at something else takes longer."""

BURST_GAP_S: Final = 30
BURST: Final = _thresholds((12, 0.76), (20, 0.84), (28, 0.92))
"""The same for more seconds, for equal times, which scans and exports share, and for pictures with
an even background."""

_MAX_BURST_NEIGHBOURS: Final = 60

MAX_COMPARISONS: Final = 2 * 10**8
"""Number of pairs of hashes up to which all are compared; cells of vectors serve larger numbers."""

MAX_DEFERRED_SHARE: Final = 1 / 1000
MIN_DEFERRING_CONTENTS: Final = 20_000
"""A small addition to at least that many contents waits until this share of them is new."""

TYPICAL_BASELINE: Final = 0.55
"""Mean similarity of two pictures for most encoders, used for few pictures."""

_MIN_BASELINE_CONTENTS: Final = 200
_BASELINE_SAMPLE: Final = 2000
_MAX_BASELINE: Final = 0.9

_MIN_EQUAL: Final = 8
"""Number of equal hashes from which one picture stands for the others in comparisons."""

_EQUAL_ROUNDS: Final = 8
_MAX_PAIRS_PER_PICTURE: Final = 64
_BLOCK_PAIRS: Final = 32_768


def update_duplicates(
    layout: IndexLayout,
    catalog: CatalogWriter,
    *,
    may_wait: bool = False,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Bring the groups of duplicates up to date with the contents of a catalog.

    Nothing happens if no content is new. A damaged segment leaves the groups as they are.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        may_wait: True if few new contents of a large index may wait for more of them.
        on_start: Called before pictures are compared.
    """
    identity = catalog.identity()
    if identity is None:
        return
    fingerprint = identity.encoder.fingerprint
    state, last_content = catalog.duplicates.state(), catalog.duplicates.last_content()
    if state is not None and (state.version, state.encoder) != (RULES_VERSION, fingerprint):
        state = None
    if state is not None and state.last_content == last_content:
        return
    if may_wait and state is not None and state.contents >= MIN_DEFERRING_CONTENTS:
        num_new = last_content - state.last_content
        if num_new < state.contents * MAX_DEFERRED_SHARE:
            return
    on_start()
    with suppress(DamagedFileError):
        _update(layout, catalog, fingerprint, last_content, state)


def _update(
    layout: IndexLayout,
    catalog: CatalogWriter,
    fingerprint: str,
    last_content: int,
    state: DuplicateState | None,
) -> None:
    looks = catalog.duplicates.load_looks()
    rows = ImageRows.open(layout, catalog.segments())
    looks = select(looks, rows.holds(looks.item_ids))
    if state is None or len(looks) >= 2 * max(state.baseline_contents, 1):
        # The baseline of few pictures says little of many.
        state = DuplicateState(
            RULES_VERSION, fingerprint, 0, 0, measure_baseline(looks, rows), len(looks), 0, 0
        )
    old_rows = catalog.duplicates.rows() if state.last_content else []
    pairs = find_pairs(looks, looks.content_ids > state.last_content, rows, state.baseline)
    contents = looks.content_ids
    is_represented = pairs.leaders != np.arange(len(looks))
    groups = update_groups(
        old_rows,
        contents[pairs.near].tolist(),
        contents[pairs.burst].tolist(),
        dict(
            zip(
                contents[is_represented].tolist(),
                contents[pairs.leaders[is_represented]].tolist(),
                strict=True,
            )
        ),
        undated=frozenset(contents[looks.taken_s == NO_TIME].tolist()),
    )
    old = {row.content_id: row for row in old_rows}
    changed = [row for row in groups if old.get(row.content_id) != row]
    new_state = replace(
        state,
        last_content=last_content,
        contents=len(looks),
        grouped=len(groups),
        unhashed=catalog.duplicates.count_unhashed(),
    )
    catalog.duplicates.save(changed, new_state, replace=not state.last_content)


def select(looks: PictureLooks, mask: NDArray[np.bool_]) -> PictureLooks:
    """Return the looks of some pictures."""
    return PictureLooks(**{name: values[mask] for name, values in vars(looks).items()})


def measure_baseline(looks: PictureLooks, rows: ImageRows) -> float:
    """Return the mean cosine similarity of two different pictures of an index."""
    if len(looks) < _MIN_BASELINE_CONTENTS:
        return TYPICAL_BASELINE
    sample = np.linspace(0, len(looks) - 1, min(len(looks), _BASELINE_SAMPLE)).astype(np.int64)
    vectors = rows.vectors(looks.item_ids[sample]).astype(np.float64)
    total, count = vectors.sum(axis=0), len(vectors)
    return float(min((total @ total - count) / (count * (count - 1)), _MAX_BASELINE))


@dataclass(frozen=True)
class DuplicatePairs:
    """Pairs of duplicates, as positions in the looks, closest first.

    Attributes:
        near: Near duplicates, int64 (n, 2).
        burst: Pictures of one burst, or of one moment and with the same look, int64 (m, 2).
        leaders: For each picture the one that stands for it, itself for most, int64 (pictures,).
    """

    near: NDArray[np.int64]
    burst: NDArray[np.int64]
    leaders: NDArray[np.int64]


def find_pairs(
    looks: PictureLooks, is_new: NDArray[np.bool_], rows: ImageRows, baseline: float
) -> DuplicatePairs:
    """Return the pairs of duplicates of which at least one picture is new.

    Args:
        looks: All pictures.
        is_new: Mask of those that were not compared before, bool (n,).
        rows: Their image vectors.
        baseline: See `DuplicateState`.
    """
    comparison = _Comparison(looks, rows, baseline)
    leaders = comparison.find_leaders(is_new)
    compared = np.flatnonzero((looks.hashes != 0) & (leaders == np.arange(len(looks))))
    near = comparison.near_pairs(compared, is_new).unique(len(looks))
    gap_s = comparison.gap_s(near.left, near.right)
    # Of two pictures taken at different times, neither is a copy of the other.
    is_burst = (gap_s > 0) & (gap_s <= MAX_BURST_GAP_S)
    bursts = _join([near.select(is_burst), *comparison.burst_pairs(is_new)])
    return DuplicatePairs(
        near.select(~is_burst).closest(), bursts.unique(len(looks)).closest(), leaders
    )


@dataclass(frozen=True)
class _ScoredPairs:
    """Pairs of pictures by their positions, and how close they are.

    Attributes:
        left: int64 (n,).
        right: int64 (n,).
        strength: float32 (n,); higher is closer.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    strength: NDArray[np.float32]

    def select(self, mask: NDArray[np.bool_]) -> _ScoredPairs:
        """Return the pairs of a mask."""
        return _ScoredPairs(self.left[mask], self.right[mask], self.strength[mask])

    def unique(self, count: int) -> _ScoredPairs:
        """Return each pair of ``count`` pictures once, with its lower position first."""
        keys = np.minimum(self.left, self.right) * count + np.maximum(self.left, self.right)
        keys, first = np.unique(keys, return_index=True)
        return _ScoredPairs(keys // max(count, 1), keys % max(count, 1), self.strength[first])

    def closest(self) -> NDArray[np.int64]:
        """Return the pairs that are among the closest ones of either picture, closest first.

        Returns:
            int64 (n, 2).
        """
        order = np.argsort(-self.strength, kind="stable")
        pairs = np.stack([self.left[order], self.right[order]], axis=1)
        kept = np.zeros(len(pairs), dtype=bool)
        for side in pairs.T:
            by_picture = np.argsort(side, kind="stable")
            members = side[by_picture]
            rank = np.arange(len(members)) - np.searchsorted(members, members)
            kept[by_picture[rank < _MAX_PAIRS_PER_PICTURE]] = True
        return pairs[kept]


_NO_PAIRS: Final = _ScoredPairs(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
)


def _join(parts: Iterable[_ScoredPairs]) -> _ScoredPairs:
    columns = zip(*((part.left, part.right, part.strength) for part in parts), strict=True)
    left, right, strength = map(np.concatenate, columns)
    return _ScoredPairs(left, right, strength)


@dataclass(frozen=True)
class _Comparison:
    """Comparison of pictures by their positions in the looks."""

    looks: PictureLooks
    rows: ImageRows
    baseline: float

    @property
    def codes(self) -> NDArray[np.int64]:
        """Hashes without the bit that says what kind of picture it is."""
        return self.looks.hashes & np.int64(2**63 - 1)

    @property
    def has_background(self) -> NDArray[np.bool_]:
        """Mask of the pictures with an even background; see `perceptual_hash`."""
        return self.looks.hashes < 0

    def vectors(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.rows.vectors(self.looks.item_ids[positions])

    def similarities(
        self, left: NDArray[np.int64], right: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the relative similarities of pairs, float32 (n,)."""
        cosines = np.empty(len(left), dtype=np.float32)
        for start in range(0, len(left), _BLOCK_PAIRS):
            block = slice(start, start + _BLOCK_PAIRS)
            # Pairs come sorted by one side, so its vectors are read once.
            own, index = np.unique(left[block], return_inverse=True)
            first, second = self.vectors(own)[index], self.vectors(right[block])
            cosines[block] = np.einsum("nd,nd->n", first, second)
        return (cosines - np.float32(self.baseline)) / np.float32(1 - self.baseline)

    def distances(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.uint8]:
        codes = self.codes
        counts: NDArray[np.uint8] = np.bitwise_count(codes[left] ^ codes[right])
        return counts

    def gap_s(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the seconds between the pictures of pairs; -1 if they are not known."""
        taken_s = self.looks.taken_s
        known = (taken_s[left] != NO_TIME) & (taken_s[right] != NO_TIME)
        return np.where(known, np.abs(taken_s[left] - taken_s[right]), -1)

    def least(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the least similarity of near duplicates, by the hashes of pairs."""
        distances, has_background = self.distances(left, right), self.has_background
        on_background = has_background[left] & has_background[right]
        return np.where(on_background, NEAR_ON_BACKGROUND[distances], NEAR[distances])

    def confirm(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> _ScoredPairs:
        """Return the near duplicates among pairs."""
        least = self.least(left, right)
        possible = (least < _NEVER) & (left != right)
        left, right, least = left[possible], right[possible], least[possible]
        similarities = self.similarities(left, right)
        near = similarities >= least
        left, right = left[near], right[near]
        strength = similarities[near] - self.distances(left, right) / np.float32(64)
        return _ScoredPairs(left, right, strength)

    def find_leaders(self, is_new: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return for each picture the one that stands for it: one of many with an equal hash."""
        leaders = np.arange(len(self.looks))
        hashes = self.looks.hashes
        order = np.argsort(hashes, kind="stable")
        starts = np.flatnonzero(np.append(True, np.diff(hashes[order]) != 0))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            members = order[start:end]
            if len(members) < _MIN_EQUAL or hashes[members[0]] == 0:
                continue
            for _ in range(_EQUAL_ROUNDS):
                first, others = members[0], members[1:]
                equal = self.confirm(np.full(len(others), first), others).right
                leaders[equal[is_new[equal]]] = first
                members = np.setdiff1d(others, equal)
                if len(members) < _MIN_EQUAL:
                    break
        return leaders

    def near_pairs(self, compared: NDArray[np.int64], is_new: NDArray[np.bool_]) -> _ScoredPairs:
        """Return the near duplicates of which one is new, among the pictures to compare."""
        new = compared[is_new[compared]]
        candidates = self._candidates(compared, new, is_new) if len(new) else ()
        return _join([_NO_PAIRS, *(self.confirm(left, right) for left, right in candidates)])

    def _candidates(
        self, compared: NDArray[np.int64], new: NDArray[np.int64], is_new: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        # FAISS takes long to import, and most runs find nothing new.
        from mmsearch.vector_indexes._near_pairs import cell_pairs, hash_pairs  # noqa: PLC0415

        codes = self.codes
        if len(new) * len(compared) <= MAX_COMPARISONS:
            for left, right in hash_pairs(codes[new], codes[compared], MAX_DISTANCE):
                yield new[left], compared[right]
            return
        on_background = self.has_background[new]
        for queries, distance in ((new[~on_background], HASH_DISTANCE), (new[on_background], 4)):
            for left, right in hash_pairs(codes[queries], codes[compared], distance):
                yield queries[left], compared[right]
        min_cosine = self.baseline + CELL_SIMILARITY * (1 - self.baseline)
        for left, right in cell_pairs(
            len(compared), lambda positions: self.vectors(compared[positions]), min_cosine
        ):
            pair = compared[left], compared[right]
            has_new = is_new[pair[0]] | is_new[pair[1]]
            yield pair[0][has_new], pair[1][has_new]

    def burst_pairs(self, is_new: NDArray[np.bool_]) -> Iterator[_ScoredPairs]:
        """Yield the pairs of pictures of a burst, or of one moment, of which one is new."""
        looks = self.looks
        dated = np.flatnonzero((looks.taken_s != NO_TIME) & (looks.hashes != 0))
        order = dated[np.argsort(looks.taken_s[dated], kind="stable")]
        for step in range(1, min(_MAX_BURST_NEIGHBOURS, len(order))):
            left, right = order[:-step], order[step:]
            gap_s = self.gap_s(left, right)
            if gap_s.min() > BURST_GAP_S:
                break
            cameras = looks.cameras[left], looks.cameras[right]
            same_camera = (cameras[0] == cameras[1]) | (cameras[0] < 0) | (cameras[1] < 0)
            on_background = self.has_background[left] | self.has_background[right]
            # Pictures of windows are taken by no camera.
            is_photo = (gap_s <= SERIES_GAP_S) & (cameras[0] >= 0) & (cameras[1] >= 0)
            possible = (
                (gap_s <= BURST_GAP_S)
                & same_camera
                & (~on_background | is_photo)
                & (is_new[left] | is_new[right])
            )
            distances = self.distances(left, right)
            is_series = (gap_s > 0) & (gap_s <= SERIES_GAP_S) & ~on_background
            least = np.where(is_series, SERIES[distances], BURST[distances])
            possible &= least < _NEVER
            left, right, least = left[possible], right[possible], least[possible]
            similarities = self.similarities(left, right)
            alike = similarities >= least
            yield _ScoredPairs(left[alike], right[alike], similarities[alike])
