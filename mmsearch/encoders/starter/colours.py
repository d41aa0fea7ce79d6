"""The starter's colour columns: which of eleven colours a picture shows and a text names.

The eleven are the basic colour terms of English (Berlin & Kay 1969). Pixels are assigned to them in
Oklab (https://bottosson.github.io/posts/oklab/), by their distance to typical colours of each term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

TYPICAL_COLOURS: Final = {
    "black": ("000000", "1c1c1c", "2e2b2a"),
    "white": ("ffffff", "ececec", "f5f0e6"),
    "grey": ("808080", "a8a8a8", "5c5c5c", "8a8f94"),
    "red": ("d81e1e", "a01018", "e8402c", "701018"),
    "orange": ("f58a1f", "e06a1a", "ffab4a"),
    "yellow": ("ffe11a", "e6c619", "f5e67a", "ffd24a"),
    "green": ("1f9a2e", "0d5a1e", "7cc242", "5f7a2c", "2f4a20", "a8d878"),
    "blue": ("1f5fd6", "0f2a70", "5aa5e6", "2b7fa8", "a6cdf0", "18b8c8"),
    "purple": ("7a1fa0", "4a2268", "b07ad0", "9a4fb0"),
    "pink": ("f59ac0", "e84a92", "ffc6d2", "d8708f"),
    "brown": ("7a4a22", "4a2c18", "a5713f", "c49a6c", "5f3d2e"),
}
"""sRGB colours that English speakers call by each term, hexadecimal."""

COLOURS: Final = tuple(TYPICAL_COLOURS)
"""The eleven terms, in the order of the columns."""

COLOUR_WORDS: Final = {
    "black": "black blacks ebony",
    "white": "white whites whitish snowy ivory",
    "grey": "grey gray greys greyish grayish silver silvery charcoal",
    "red": "red reds reddish crimson scarlet maroon burgundy ruby",
    "orange": "orange oranges amber",
    "yellow": "yellow yellows yellowish golden gold blonde blond",
    "green": "green greens greenish emerald olive jade turquoise",
    "blue": "blue blues bluish azure turquoise indigo navy aqua cyan teal",
    "purple": "purple purples violet lavender lilac magenta mauve indigo",
    "pink": "pink pinks pinkish rosy magenta",
    "brown": "brown browns brownish tan beige bronze auburn chestnut",
}
"""Words of each colour; a word may stand for two."""

NAMES: Final = (
    *("red sea", "black sea", "white sea", "yellow sea", "black forest", "white house"),
    *("orange county", "green bay", "golden gate", "black friday", "black hole", "red deer"),
    *("red squirrel", "white shark", "white wine"),
)
"""Names whose first word says little about the colour of what they name."""

POOL: Final = 4
"""Edge of the blocks of pixels that are averaged before they are assigned, in pixels."""

SPREAD: Final = 0.06
"""Standard deviation of the colours around a typical one, in Oklab."""

CENTRE_WIDTH: Final = 0.3
"""Standard deviation of the weight of pixels around the centre, as a share of the edge."""

_RGB_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LMS_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_SHARE_FLOOR = 1e-6


class PictureColours(nn.Module):
    """A module that maps pictures to unit vectors with one column a colour.

    A column is the square root of the colour's share of the pixels; those near the centre count
    more. Because of the root, a small red thing is worth more than its share.

    Args:
        edge_px: Edge of the pictures, a multiple of `POOL`.
    """

    def __init__(self, edge_px: int) -> None:
        super().__init__()
        self.to_lms = _constant(torch.tensor(_RGB_TO_LMS).T)
        self.to_oklab = _constant(torch.tensor(_LMS_TO_OKLAB).T)
        colours = [(COLOURS.index(term), hexa) for term, h in TYPICAL_COLOURS.items() for hexa in h]
        rgb = torch.tensor([list(bytes.fromhex(hexadecimal)) for _, hexadecimal in colours]) / 255
        typical = self.oklab(rgb)
        self.slopes = _constant(typical.T / SPREAD**2)
        self.offsets = _constant(-(typical**2).sum(1) / (2 * SPREAD**2))
        self.terms = _constant(torch.eye(len(COLOURS))[[term for term, _ in colours]])
        self.cells = edge_px // POOL
        distances = torch.linspace(-0.5, 0.5, self.cells) ** 2
        weights = torch.exp(-(distances[:, None] + distances) / (2 * CENTRE_WIDTH**2)).flatten()
        self.weights = _constant(weights / weights.sum())

    def oklab(self, rgb: Tensor) -> Tensor:
        """Convert sRGB, float32 (..., 3) from 0 to 1, to Oklab, float32 (..., 3)."""
        linear = torch.where(
            rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04) + 0.055) / 1.055) ** 2.4
        )
        return (linear @ self.to_lms).clamp(min=1e-6) ** (1 / 3) @ self.to_oklab

    def cell_shares(self, pictures: Tensor) -> Tensor:
        """Return how much each cell has of each colour, float32 (n, cells * cells, 11).

        The pictures are uint8 (n, edge, edge, 3); the rows of the result sum to 1.
        """
        cells = avg_pool2d(pictures.permute(0, 3, 1, 2).float() / 255, POOL).flatten(2)
        # The squared distances without the term that is the same for all typical colours.
        nearness = self.oklab(cells.transpose(1, 2)) @ self.slopes + self.offsets
        return torch.softmax(nearness, dim=2) @ self.terms

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures, uint8 (n, edge, edge, 3), to float32 (n, 11) with unit rows."""
        shares = (self.cell_shares(pictures) * self.weights[:, None]).sum(1)
        return normalize((shares + _SHARE_FLOOR) ** 0.5, dim=1)

    def parts(self, pictures: Tensor, rows: int) -> Tensor:
        """Map the patches of pictures to float32 (n * rows * rows, 11) with unit rows.

        The pictures are uint8 (n, edge, edge, 3); ``rows`` is the number of patches along an edge.
        """
        positions = torch.arange(self.cells) * rows // self.cells
        membership = torch.eye(rows)[positions]
        pool = (membership / membership.sum(0)).T
        grid = self.cell_shares(pictures).view(-1, self.cells, self.cells, len(COLOURS))
        shares = torch.einsum("ri,nijc,sj->nrsc", pool, grid, pool).reshape(-1, len(COLOURS))
        return normalize((shares + _SHARE_FLOOR) ** 0.5, dim=1)


class TextColours(nn.Module):
    """A module that maps token ids to the colours that they name.

    The first token of a longer word, such as that of "bluebell", names none, nor does that of one
    of the `NAMES`.

    Args:
        vocabulary: Id of each token; those that continue a word start with ``##``.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        super().__init__()
        table = torch.zeros(max(vocabulary.values()) + 1, len(COLOURS), dtype=torch.bool)
        pairs = {tuple(vocabulary[word] for word in name.split()): set[int]() for name in NAMES}
        for column, words in enumerate(COLOUR_WORDS.values()):
            for word in words.split():
                ids = _pieces(word, vocabulary)
                if len(ids) == 1:
                    table[ids[0], column] = True
                else:
                    pairs.setdefault(ids, set()).add(column)
        continues = torch.zeros(len(table), dtype=torch.bool)
        continues[[id_ for token, id_ in vocabulary.items() if token.startswith("##")]] = True
        columns = [
            [float(column in found) for column in range(len(COLOURS))] for found in pairs.values()
        ]
        self.table = nn.Buffer(table)
        self.continues = nn.Buffer(continues)
        self.pairs = nn.Buffer(torch.tensor(list(pairs)))
        self.pair_colours = _constant(torch.tensor(columns))

    def parts(self, input_ids: Tensor) -> Tensor:
        """Return the colours of each token, float32 (n, t, 11), 0 or 1; ids are int64 (n, t)."""
        following = torch.cat([input_ids[:, 1:], torch.zeros_like(input_ids[:, :1])], dim=1)
        first, second = self.pairs.T
        is_pair = ((input_ids[:, :, None] == first) & (following[:, :, None] == second)).float()
        ignored = (is_pair.amax(2) + self.continues[following].float()).clamp(max=1)
        alone = self.table[input_ids].float() * (1 - ignored)[:, :, None]
        colours: Tensor = alone + is_pair @ self.pair_colours
        return colours

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map token ids, int64 (n, t), to float32 (n, 11): unit rows, or 0 without a colour."""
        colours: Tensor = normalize(self.parts(input_ids).amax(1), dim=1)
        return colours


def _pieces(word: str, vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """Return the one or two ids of a word; the longest first piece is the one that BERT uses."""
    if word in vocabulary:
        return (vocabulary[word],)
    splits = ((word[:end], "##" + word[end:]) for end in range(len(word) - 1, 0, -1))
    first, second = next(pair for pair in splits if pair[0] in vocabulary)
    return vocabulary[first], vocabulary[second]


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.contiguous(), requires_grad=False)
