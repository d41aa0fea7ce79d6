"""Words that the starter's alignment is trained on, and the ImageNet classes that they mean.

Arrays derived from them may be shipped: WordNet 3.0 has its own permissive licence, and the
ImageNet class names are those of timm (Apache-2.0).
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

GROUP_COUNT = 704


@dataclass(frozen=True)
class Concept:
    """A meaning of a word, with the ImageNet classes below it.

    Attributes:
        name: WordNet identifier, such as "n02084071".
        words: Synonyms.
        definition: WordNet's definition.
        classes: Positions, 0..999, of the classes at or below the concept.
        is_class: True if the concept is itself one of the thousand classes.
    """

    name: str
    words: tuple[str, ...]
    definition: str
    classes: tuple[int, ...]
    is_class: bool


@dataclass(frozen=True)
class WordNet:
    """Synonyms, direct hypernyms and definitions of WordNet's nouns, by name."""

    words: dict[str, tuple[str, ...]]
    parents: dict[str, list[str]]
    definitions: dict[str, str]

    def ancestors(self, name: str) -> set[str]:
        """Return the noun itself and all its hypernyms."""
        visited: set[str] = set()
        pending = [name]
        while pending:
            noun = pending.pop()
            if noun not in visited:
                visited.add(noun)
                pending.extend(self.parents[noun])
        return visited


def read_wordnet(data_noun: Path) -> WordNet:
    """Read WordNet's nouns.

    Args:
        data_noun: Path of WordNet 3.0's data.noun; wndb(5WN) describes the format.
    """
    wordnet = WordNet({}, {}, {})
    for line in data_noun.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        body, _, gloss = line.partition("|")
        fields = body.split()
        count = int(fields[3], 16)
        name = f"n{fields[0]}"
        pointers = fields[5 + 2 * count :]
        wordnet.words[name] = tuple(w.replace("_", " ") for w in fields[4 : 4 + 2 * count : 2])
        wordnet.definitions[name] = gloss.split(";")[0].strip()
        wordnet.parents[name] = [
            f"n{pointers[offset + 1]}"
            for offset in range(0, 4 * int(fields[4 + 2 * count]), 4)
            if pointers[offset] in {"@", "@i"}
        ]
    return wordnet


def load_concepts(wordnet: WordNet) -> list[Concept]:
    """Return the nouns that have ImageNet classes at or below them, sorted by name."""
    classes = {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    classes_below: dict[str, set[int]] = {}
    for name, position in classes.items():
        for ancestor in wordnet.ancestors(name):
            classes_below.setdefault(ancestor, set()).add(position)
    return [
        Concept(
            name,
            wordnet.words[name],
            wordnet.definitions[name],
            tuple(sorted(class_ids)),
            name in classes,
        )
        for name, class_ids in sorted(classes_below.items())
    ]


def class_similarity(wordnet: WordNet) -> NDArray[np.float64]:
    """Return the similarity of the thousand classes in WordNet, float64 (1000, 1000), 0..1.

    It is Lin's similarity (1998) with the information content of Seco et al. (2004): the fewer
    nouns are below a noun, the more information it carries.
    """
    descendant_counts = Counter(
        ancestor for name in wordnet.words for ancestor in wordnet.ancestors(name)
    )
    information_content = {
        name: -math.log(descendant_counts[name] / len(wordnet.words)) for name in wordnet.words
    }
    names = ImageNetInfo("imagenet-1k").label_names()
    classes_below: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        for ancestor in wordnet.ancestors(name):
            classes_below.setdefault(ancestor, []).append(position)
    shared_content = np.zeros((len(names), len(names)))
    for ancestor, positions in classes_below.items():
        block = np.ix_(positions, positions)
        shared_content[block] = np.maximum(shared_content[block], information_content[ancestor])
    class_content = np.array([information_content[name] for name in names])
    similarity = 2 * shared_content / (class_content[:, None] + class_content[None, :])
    np.fill_diagonal(similarity, 1.0)
    return np.asarray(similarity)


def group_classes(rows: NDArray[np.float32], similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    """Group classes that are similar in look and meaning, such as sixteen terriers.

    Args:
        rows: Weights of the classifier, float32 (1000, 1280); similar for classes it confuses.
        similarity: See `class_similarity`.

    Returns:
        Group of each class by average linkage, int64 (1000,).
    """
    centred = rows - rows.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    affinity = centred @ centred.T + similarity
    distance = affinity.max() - (affinity + affinity.T) / 2
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average")
    return fcluster(tree, GROUP_COUNT, "maxclust").astype(np.int64) - 1


def class_texts() -> list[list[str]]:
    """Return the texts of each of the thousand classes.

    They are its names, "a photo of a ..." for each name, and its definition.
    """
    info = ImageNetInfo("imagenet-1k")
    texts = []
    for position in range(info.num_classes()):
        names, _, definition = info.index_to_description(position, detailed=True).partition(": ")
        split = names.split(", ")
        texts.append([*split, *(f"a photo of a {name}" for name in split), definition])
    return texts
