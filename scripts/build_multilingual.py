"""Rebuild the arrays of the starter's multilingual text tower, ``multilingual.npz``.

Needs the extra ``multilingual``. The words are those of WordNet and ImageNet in English, and names
of emoji in ten languages (emojibase, MIT; its names are those of Unicode's CLDR). Each text is
mapped to what the starter's first text tower says of the English one. The run is seeded; no picture
is used.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from build_starter import MAX_CONCEPT_CLASSES, THREADS, classifier_rows, encode_texts
from numpy.typing import NDArray
from platformdirs import user_cache_path
from starter_packages import FetchError, fetch_debian, fetch_npm
from starter_words import class_texts, load_concepts, read_wordnet

from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders._onnx.cache import TowerName
from mmsearch.encoders.starter import build as build_encoder
from mmsearch.encoders.starter.alignment import load_alignment, load_extension
from mmsearch.encoders.starter.multilingual import open_sentence_model
from mmsearch.encoders.starter.multilingual_head import HEAD_FILE, KERNEL_WIDTH

EMOJI_PACKAGE = "emojibase-data"
EMOJI_VERSION = "17.0.0"
EMOJI_GROUPS = (0, 1, 3, 4, 5, 6, 7)
"""Groups of emoji of faces, people, animals, food, places, activities and objects."""

EMOJI_LANGUAGES = ("en", "de", "ja", "zh", "fr", "es", "ru", "it", "nl", "pt")
EMOJI_COUNT = 640
"""Number of emoji, chosen at random; their names are 6,000 texts."""

LANDMARK_COUNTS = (600, 600)
"""Numbers of concepts and of names of emoji among the landmarks, besides the classes."""

PENALTY = 0.1
JITTER = 1e-5
SEED = 0
BATCH = 32

Floats = NDArray[np.float64]


def emoji_names(package: Path) -> list[tuple[str, str]]:
    """Return pairs of a name in one of the languages and the English one."""
    names = {
        code: {
            entry["hexcode"]: entry
            for entry in json.loads((package / code / "data.json").read_text(encoding="utf-8"))
        }
        for code in EMOJI_LANGUAGES
    }
    emoji = [
        number
        for number, entry in names["en"].items()
        if entry.get("group") in EMOJI_GROUPS and all(number in other for other in names.values())
    ]
    random.Random(SEED).shuffle(emoji)  # noqa: S311 - no secret
    pairs = (
        (names[code][number]["label"].lower(), names["en"][number]["label"].lower())
        for number in emoji[:EMOJI_COUNT]
        for code in EMOJI_LANGUAGES
    )
    return list(dict.fromkeys(pairs))


def encode_multilingual(texts: list[str], cache: Path) -> Floats:
    """Return the sentence vectors of multilingual-e5-small, float64 (n, 384), unit rows.

    They are kept in a file, because it takes minutes.
    """
    path = cache / "multilingual.npz"
    known: dict[str, NDArray[np.float32]] = {}
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))
    missing = sorted(set(texts) - set(known), key=len)
    if missing:
        model = open_sentence_model(EncoderOptions("", "cpu", cache))
        tokenizer, tower = model.load_tokenizer(), model.open_tower(TowerName.TEXT)
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        inputs = tokenizer.pad_batch([tokenizer.prepare(text) for text in batch])
        known |= dict(zip(batch, tower.run(inputs), strict=True))
        print(f"\rtexts encoded: {start + len(batch)}/{len(missing)}", end="", file=sys.stderr)
    np.savez(path, texts=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[text] for text in texts]).astype(np.float64)


def kernel(first: Floats, second: Floats) -> Floats:
    """Return exp((cosine - 1) / h) of all pairs of unit rows."""
    return np.asarray(np.exp((first @ second.T - 1) / KERNEL_WIDTH))


def build(cache: Path, output: Path) -> None:
    """Fetch the words, fit the arrays and write them."""
    wordnet = read_wordnet(fetch_debian("wordnet-base", cache) / "usr/share/wordnet/data.noun")
    concepts = [
        concept
        for concept in load_concepts(wordnet)
        if not concept.is_class and len(concept.classes) <= MAX_CONCEPT_CLASSES
    ]
    classes = [names[0] for names in class_texts()]
    words = [
        (word.lower(), c.classes) for c in concepts for word in c.words if len(word.split()) <= 2
    ]
    emoji = emoji_names(fetch_npm(EMOJI_PACKAGE, EMOJI_VERSION, cache))
    texts = [*classes, *(word for word, _ in words), *(name for name, _ in emoji)]
    vectors = encode_multilingual(texts, cache)
    centre = vectors[: len(classes)].mean(0)
    points = as_unit_vectors(vectors - centre).astype(np.float64)
    # What the classifier has for the classes and concepts, and the first tower says of emoji.
    rows = classifier_rows().astype(np.float64)
    picture_map = load_extension().picture_map.astype(np.float64)
    rows = (rows - rows.mean(0)) @ (picture_map / np.linalg.norm(picture_map, axis=0))
    known_rows = [rows, *(rows[list(class_ids)].mean(0)[None] for _, class_ids in words)]
    english = [name for _, name in emoji]
    first = first_tower_vectors(english, cache)
    start = load_alignment().dim
    emoji_rows = first[:, start : start + rows.shape[1]]
    meanings = [*classes, *(word for word, _ in words), *english]
    unique = list(dict.fromkeys(meanings))
    by_text = dict(zip(unique, encode_texts(unique).numpy(), strict=True))
    sentences = np.stack([by_text[text] for text in meanings])
    classifiers = np.concatenate([*known_rows, emoji_rows])
    # The first tower has no classifier for a single word.
    classifiers /= np.maximum(np.linalg.norm(classifiers, axis=1, keepdims=True), 1e-9)
    targets = np.concatenate([classifiers, sentences], axis=1)
    generator = np.random.default_rng(SEED)
    ends = np.cumsum([len(classes), len(words), len(emoji)])
    chosen = [
        generator.permutation(np.arange(low, high))[:count]
        for low, high, count in zip(ends[:-1], ends[1:], LANDMARK_COUNTS, strict=True)
    ]
    # Rounded as they are stored.
    landmarks = points[np.concatenate([np.arange(len(classes)), *chosen])]
    landmarks = landmarks.astype(np.float16).astype(np.float64)
    values = kernel(points, landmarks)
    system = values.T @ values + PENALTY * kernel(landmarks, landmarks)
    system += JITTER * np.eye(len(landmarks))
    coefficients = np.linalg.solve(system, values.T @ targets)
    with output.open("wb") as stream:
        np.savez(
            stream,
            centre=centre.astype(np.float32),
            landmarks=landmarks.astype(np.float16),
            coefficients=coefficients.astype(np.float16),
        )
    print(f"{len(words)} words, {len(emoji)} names of emoji")
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def first_tower_vectors(texts: list[str], cache: Path) -> Floats:
    """Return the vectors that the starter's first text tower gives, float64 (n, dim)."""
    encoder = build_encoder(EncoderOptions("", "cpu", cache))
    unique = list(dict.fromkeys(texts))
    vectors = encoder.encode(
        InputKind.TEXT, [encoder.prepare(InputKind.TEXT, text) for text in unique]
    )
    by_text = dict(zip(unique, vectors, strict=True))
    return np.stack([by_text[text] for text in texts]).astype(np.float64)


def main() -> int:
    """Parse the arguments and run the build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    parser.add_argument("--output", type=Path, default=HEAD_FILE)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    try:
        build(arguments.cache, arguments.output)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
