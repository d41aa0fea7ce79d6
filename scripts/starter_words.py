"""The words that the starter's alignment is learned from, and the ImageNet classes they mean.

Arrays derived from them may ship: WordNet 3.0 has its own permissive licence, the ImageNet class
names are those of timm (Apache-2.0).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from timm.data import ImageNetInfo

GROUPS = 704


@dataclass(frozen=True)
class Concept:
    """A word's meaning, with the ImageNet classes that fall under it.

    Attributes:
        name: WordNet's identifier, as "n02084071".
        words: Its synonyms.
        definition: What WordNet says it is.
        classes: Positions, 0..999, of the classes beneath (for a class: itself).
        is_class: Whether it is itself one of the thousand.
    """

    name: str
    words: tuple[str, ...]
    definition: str
    classes: tuple[int, ...]
    is_class: bool


@dataclass(frozen=True)
class WordNet:
    """Nouns by name: their synonyms, the nouns right above them, what they mean."""

    words: dict[str, tuple[str, ...]]
    parents: dict[str, list[str]]
    definitions: dict[str, str]

    def ancestors(self, name: str) -> set[str]:
        """The noun itself and all above it."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting.extend(self.parents[here])
        return found


def read_wordnet(data_noun: Path) -> WordNet:
    """WordNet's nouns.

    Args:
        data_noun: WordNet 3.0's data.noun; the format is described in wndb(5WN).
    """
    net = WordNet({}, {}, {})
    for line in data_noun.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        body, _, gloss = line.partition("|")
        part = body.split()
        count = int(part[3], 16)
        name = f"n{part[0]}"
        pointers = part[5 + 2 * count :]
        net.words[name] = tuple(w.replace("_", " ") for w in part[4 : 4 + 2 * count : 2])
        net.definitions[name] = gloss.split(";")[0].strip()
        net.parents[name] = [
            f"n{pointers[at + 1]}"
            for at in range(0, 4 * int(part[4 + 2 * count]), 4)
            if pointers[at] in {"@", "@i"}
        ]
    return net


def concepts_of(net: WordNet) -> list[Concept]:
    """The nouns that have ImageNet classes at or beneath them, by name."""
    classes = {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    beneath: dict[str, set[int]] = {}
    for name, position in classes.items():
        for ancestor in net.ancestors(name):
            beneath.setdefault(ancestor, set()).add(position)
    return [
        Concept(name, net.words[name], net.definitions[name], tuple(sorted(below)), name in classes)
        for name, below in sorted(beneath.items())
    ]


def class_kinship(net: WordNet) -> NDArray[np.float64]:
    """How close the thousand classes are in WordNet, float64 (1000, 1000), 0..1.

    Lin's similarity (1998) with the information content of Seco et al. (2004): a noun says the
    more, the fewer others lie beneath it.
    """
    beneath = Counter(above for name in net.words for above in net.ancestors(name))
    content = {name: -math.log(beneath[name] / len(net.words)) for name in net.words}
    names = ImageNetInfo("imagenet-1k").label_names()
    below: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        for above in net.ancestors(name):
            below.setdefault(above, []).append(position)
    shared = np.zeros((len(names), len(names)))
    for above, positions in below.items():
        block = np.ix_(positions, positions)
        shared[block] = np.maximum(shared[block], content[above])
    own = np.array([content[name] for name in names])
    kinship = 2 * shared / (own[:, None] + own[None, :])
    np.fill_diagonal(kinship, 1.0)
    return np.asarray(kinship)


def group_classes(rows: NDArray[np.float32], kinship: NDArray[np.float64]) -> NDArray[np.int64]:
    """Put classes that look and mean alike together, as sixteen terriers.

    Args:
        rows: The classifier's weights, float32 (1000, 1280): alike for classes it confuses.
        kinship: See `class_kinship`.

    Returns:
        int64 (1000,): the group of each class, by average linkage.
    """
    centred = rows - rows.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    alike = centred @ centred.T + kinship
    distance = alike.max() - (alike + alike.T) / 2
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average")
    return fcluster(tree, GROUPS, "maxclust").astype(np.int64) - 1


def class_texts() -> list[list[str]]:
    """For each of the thousand classes: its names, "a photo of a ..." and its definition."""
    info = ImageNetInfo("imagenet-1k")
    texts = []
    for position in range(info.num_classes()):
        names, _, definition = info.index_to_description(position, detailed=True).partition(": ")
        split = names.split(", ")
        texts.append([*split, *(f"a photo of a {name}" for name in split), definition])
    return texts
