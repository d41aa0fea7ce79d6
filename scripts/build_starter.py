"""Rebuild the starter's ``alignment.npz`` and ``extension.npz`` from packages; report the quality.

The training data comes from the Debian and npm registries; the weights of the towers are Python
packages. The run is seeded, selects nothing on the validation sets, and ends with a
cross-validation table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from fetch_eval_sets import build_stamps
from numpy.typing import NDArray
from PIL import Image
from platformdirs import user_cache_path
from starter_classifiers import fit_extension
from starter_packages import FetchError, fetch_debian, fetch_npm
from starter_sources import EMOJI_PACKAGE, EMOJI_VERSION, Drawing, read_emoji, read_openclipart
from starter_training import TrainingData, TrainingSettings, train
from starter_validation import TitledDrawings, cross_validate
from starter_words import (
    Concept,
    WordNet,
    class_similarity,
    class_texts,
    group_classes,
    load_concepts,
    read_wordnet,
)
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from mmsearch.encoders.starter import heads
from mmsearch.encoders.starter.alignment import (
    ALIGNMENT_FILE,
    EXTENSION_FILE,
    SENTENCE_DIM,
    Alignment,
    Extension,
    load_alignment,
)

# Float sums depend on the number of threads; a fixed number makes the result reproducible.
THREADS = 2
SEED = 0
MAX_KEYWORD_COUNT = 150
MAX_CONCEPT_CLASSES = 500
DUPLICATE_COSINE = 0.95
CAPTION_TEMPLATES = ("{}", "a {}", "a photo of a {}")
WORD_TEMPLATES = (*CAPTION_TEMPLATES, "the {}", "a picture of a {}", "{} photo")


def encode_pictures(paths: list[Path], cache_file: Path) -> tuple[Tensor, Tensor]:
    """Return pooled features and logits of pictures, squashed to 260 x 260.

    They are cached in ``cache_file``.
    """
    if cache_file.is_file():
        with np.load(cache_file, allow_pickle=False) as stored:
            if len(stored["features"]) == len(paths):
                return torch.from_numpy(stored["features"]), torch.from_numpy(stored["logits"])
    network = heads.ClassifierFeatures().eval()
    outputs = []
    for start in range(0, len(paths), 32):
        batch = np.stack([_open_square(path) for path in paths[start : start + 32]])
        with torch.inference_mode():
            outputs.append(network(torch.from_numpy(batch)))
        print(f"\rpictures encoded: {start + len(batch)}/{len(paths)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    features, logits = (torch.cat(output).clone() for output in zip(*outputs, strict=True))
    np.savez(cache_file, features=features.numpy(), logits=logits.numpy())
    return features, logits


def encode_texts(texts: list[str]) -> Tensor:
    """Return unit sentence vectors, float32 (n, 384)."""
    tokenizer = Tokenizer.from_file(str(heads.tokenizer_path()))
    tokenizer.enable_truncation(heads.MAX_TOKENS)
    tokenizer.enable_padding(pad_id=heads.PAD_TOKEN_ID)
    model = heads.load_sentence_model()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = torch.empty(len(texts), SENTENCE_DIM)
    for start in range(0, len(order), 256):
        batch = order[start : start + 256]
        tokens = tokenizer.encode_batch([texts[i] for i in batch])
        ids = torch.tensor([token.ids for token in tokens])
        mask = torch.tensor([token.attention_mask for token in tokens])
        with torch.inference_mode():
            vectors[batch] = model(ids, mask)
    return vectors


def load_sources(cache: Path) -> tuple[list[Drawing], WordNet]:
    """Fetch the packages and read them."""
    png = fetch_debian("openclipart-png", cache) / "usr/share/openclipart/png"
    svg = fetch_debian("openclipart-svg", cache) / "usr/share/openclipart/svg"
    emoji = fetch_npm(EMOJI_PACKAGE, EMOJI_VERSION, cache)
    wordnet = fetch_debian("wordnet-base", cache) / "usr/share/wordnet/data.noun"
    records = json.loads((emoji / "emoji.json").read_text(encoding="utf-8"))
    return read_openclipart(png, svg) + read_emoji(emoji, records), read_wordnet(wordnet)


def select_non_stamps(features: Tensor, cache: Path) -> NDArray[np.bool_]:
    """Return a mask of the drawings that are not Tux Paint stamps.

    The stamps are for evaluation only.
    """
    folder = cache / "stamps"
    if not (folder / "manifest.csv").is_file():
        build_stamps(folder, cache)
    stamps, _ = encode_pictures(sorted(folder.rglob("*.png")), cache / "stamps.npz")
    max_similarity = (normalize(features, dim=1) @ normalize(stamps, dim=1).T).max(1).values
    return np.asarray((max_similarity <= DUPLICATE_COSINE).numpy())


def list_captions(drawings: list[Drawing]) -> list[list[str]]:
    """Return the captions of each drawing: its title twice, and every distinctive keyword."""
    counts = Counter(keyword for drawing in drawings for keyword in drawing.keywords)
    return [
        [d.title] * (2 if d.title else 0) + [k for k in d.keywords if counts[k] < MAX_KEYWORD_COUNT]
        for d in drawings
    ]


def make_concept_texts(concepts: list[Concept]) -> tuple[list[str], Tensor, list[str]]:
    """Return the texts of concepts, their class weights (rows sum to 1), and the concept names."""
    texts, rows, owners = [], [], []
    for concept in concepts:
        if len(concept.classes) > MAX_CONCEPT_CLASSES:  # such as "entity", which is too general
            continue
        words = [
            template.format(word.lower()) for word in concept.words for template in WORD_TEMPLATES
        ]
        row = torch.zeros(heads.CLASS_COUNT)
        row[list(concept.classes)] = 1 / len(concept.classes)
        for text in (*words, concept.definition):
            texts.append(text)
            rows.append(row)
            owners.append(concept.name)
    return texts, torch.stack(rows), owners


def class_vectors() -> Tensor:
    """Return the mean sentence vector of each class's texts, float32 (1000, 384), unit rows."""
    texts = class_texts()
    flat = encode_texts([text for class_names in texts for text in class_names])
    parts = flat.split([len(class_names) for class_names in texts])
    return normalize(torch.stack([part.mean(0) for part in parts]), dim=1)


def classifier_rows() -> NDArray[np.float32]:
    """Return the weights of the classifier, float32 (1000, 1280)."""
    return np.asarray(heads.ClassifierFeatures().network.classifier.weight.detach().numpy())


def make_extension(
    features: Tensor, concepts: list[Concept], class_sentences: NDArray[np.float32]
) -> Extension:
    """Fit the synthesised classifiers to the names and definitions of classes and concepts.

    Args:
        features: Features of the drawings, float32 (n, 1280).
        concepts: All concepts; those that are classes are left out, because `class_texts` has them.
        class_sentences: See `Alignment.class_sentences`.
    """
    texts: list[tuple[str, tuple[int, ...]]] = []
    for position, class_names in enumerate(class_texts()):
        texts += [(t, (position,)) for t in class_names if not t.startswith("a photo of a ")]
    class_text_count = len(texts)
    for concept in concepts:
        if not concept.is_class and len(concept.classes) <= MAX_CONCEPT_CLASSES:
            words = (*map(str.lower, concept.words), concept.definition)
            texts += [(word, concept.classes) for word in words]
    vectors = encode_texts([text for text, _ in texts]).numpy()
    weights = np.zeros((len(texts), heads.CLASS_COUNT), dtype=np.float32)
    for row, (_, class_ids) in zip(weights, texts, strict=True):
        row[list(class_ids)] = 1 / len(class_ids)
    return fit_extension(
        classifier_rows(),
        features.numpy(),
        vectors,
        weights,
        class_sentences,
        vectors[class_text_count:],
    )


def save(arrays_by_name: Alignment | Extension, path: Path) -> None:
    """Write matrices as float16, groups as int16 and the rest as float32, deterministically."""
    arrays = {
        name: np.asarray(value, np.float16 if np.ndim(value) == 2 else np.float32)
        for name, value in asdict(arrays_by_name).items()
    }
    if "groups" in arrays:
        arrays["groups"] = arrays["groups"].astype(np.int16)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def build(cache: Path, output: Path, *, table: bool) -> None:
    """Fetch the sources, train the alignment, fit the extension and write both files."""
    settings = TrainingSettings()
    drawings, wordnet = load_sources(cache)
    concepts = load_concepts(wordnet)
    features, logits = encode_pictures([d.path for d in drawings], cache / "drawings.npz")
    captions = list_captions(drawings)
    usable = select_non_stamps(features, cache) & np.array(
        [bool(drawing_captions) for drawing_captions in captions]
    )
    drawings = [d for d, is_usable in zip(drawings, usable, strict=True) if is_usable]
    captions = [
        drawing_captions
        for drawing_captions, is_usable in zip(captions, usable, strict=True)
        if is_usable
    ]
    phrases = sorted({text for drawing_captions in captions for text in drawing_captions})
    phrase_index = {text: i for i, text in enumerate(phrases)}
    words, word_classes, owners = make_concept_texts(concepts)
    training_data = TrainingData(
        features=features[torch.from_numpy(usable)],
        logits=logits[torch.from_numpy(usable)],
        captions=[
            [phrase_index[text] for text in drawing_captions] for drawing_captions in captions
        ],
        caption_vectors=encode_texts(
            [template.format(text) for text in phrases for template in CAPTION_TEMPLATES]
        ).view(len(phrases), len(CAPTION_TEMPLATES), SENTENCE_DIM),
        word_vectors=encode_texts(words),
        word_classes=word_classes,
        class_vectors=class_vectors(),
        groups=group_classes(classifier_rows(), class_similarity(wordnet)),
    )
    counts = dict(Counter(d.source for d in drawings))
    print(f"drawings {counts}, captions {len(phrases)}, concept texts {len(words)}")
    if table:
        general_concepts = {c.name for c in concepts if not c.is_class}
        held_out = {name for i, name in enumerate(sorted(general_concepts)) if i % 5 == 0}
        is_held_out = np.array([owner in held_out for owner in owners])
        names = [d.title for d in drawings]
        titles = TitledDrawings(names, encode_texts(names))
        cross_validate(training_data, drawings, titles, is_held_out, settings)
    full_masks = np.ones(len(drawings), bool), np.ones(len(words), bool)
    save(train(training_data, *full_masks, settings, SEED).alignment(), output)
    extension_path = output.with_name(EXTENSION_FILE.name)
    class_sentences = load_alignment(output).class_sentences
    save(make_extension(features, concepts, class_sentences), extension_path)
    for path in (output, extension_path):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _open_square(path: Path) -> NDArray[np.uint8]:
    """Return a picture on white, squashed to a square, uint8 (260, 260, 3)."""
    with Image.open(path) as picture:
        rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    size_px = (heads.IMAGE_EDGE_PX, heads.IMAGE_EDGE_PX)
    return np.asarray(white.convert("RGB").resize(size_px, Image.Resampling.BICUBIC))


def main() -> int:
    """Parse the arguments and run the build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    parser.add_argument("--output", type=Path, default=ALIGNMENT_FILE)
    parser.add_argument("--no-table", action="store_true", help="skip the cross-validation")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    # Shares near zero become denormal numbers, which are many times slower to process.
    torch.set_flush_denormal(True)
    try:
        build(arguments.cache, arguments.output, table=not arguments.no_table)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
