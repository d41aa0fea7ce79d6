"""Rebuild ``mmsearch/core/language_data`` from packages: English words, and a model of languages.

The words are those of WordNet (its own permissive licence) and of all-MiniLM-L6-v2's vocabulary
(Apache-2.0). The model is trained on them and on emojibase's labels and tags (MIT).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from platformdirs import user_cache_path
from starter_packages import FetchError, fetch_debian, fetch_npm
from starter_words import load_concepts, read_wordnet
from tokenizers import Tokenizer

from mmsearch.core import language
from mmsearch.encoders.starter import heads

EMOJIBASE, EMOJIBASE_VERSION = "emojibase-data", "17.0.0"
SEED = 0
PHRASES = 10_000
EPOCHS = 3
CONCEPT_ADVANTAGE = 4
MAX_WEIGHT = 127 * language.WEIGHT_SCALE

# Short words that WordNet lists as abbreviations or names, but that mean another language.
FUNCTION_WORDS = {
    "de": "der die das den dem des ein eine einen einem einer und im am auf mit von vor zum zur in"
    " an bei über unter neben hinter aus für nach ohne ist sind",
    "fr": "le la les un une des du de et au aux avec dans sur sous devant derrière pour sans en à"
    " est près chez",
    "es": "el la los las un una unos unas y en con de del al sobre bajo por para sin junto entre"
    " delante es",
    "it": "il lo la i gli le un uno una e in con di del della dello al alla sul sulla nel nella da"
    " per sotto è",
    "nl": "de het een en in op met van voor onder bij aan naar uit over achter is zijn naast",
    "pt": "o a os as um uma e em no na nos nas com de do da dos das sobre sob para por ao é",
    "sv": "en ett och i på med av den det som under vid till från för är",
    "da": "en et og i på med af den det som under ved til fra for er",
    "nb": "en et ei og i på med av den det som under ved til fra for er",
    "pl": "w na z i do pod nad przed przy za od dla jest",
    "fi": "ja on joka kanssa alla vieressä",
    "hu": "a az egy és van alatt mellett",
    "et": "ja on all koos",
    "lt": "ir su ant po prie",
    "ms": "di dan yang dengan ke dari pada",
    "vi": "và trên trong với của một dưới",
}
ENGLISH = (
    "a an the and or of in on at by for with from to is are was be it its this that as into over"
    " under near no not my our your his her their me we you i he she they do so up out off all"
    " some any more very there here who what when where which how if but then than"
)
BRANDS = (
    "nikon canon olympus panasonic fujifilm leica pentax samsung iphone ipad huawei xiaomi gopro"
    " adidas ikea lego instagram facebook tiktok whatsapp youtube google photoshop lightroom"
)
# Function words of other languages that English queries hold as well.
SHARED = (
    "also all an as at by die do for her in is it me no of on or so to under up was we"
)  # fmt: skip


# What English texts call places by: "Rio de Janeiro", "Château de Chambord", "Los Angeles".
PLACE_PARTS = (
    "{0} de {1}|{0} de la {1}|{0} del {1}|{0} di {1}|{0} da {1}|{0} du {1}|{0} la {1}|la {0}|el {0}"
    "|los {0}|las {0}|le {0}|les {0}|san {0}|santa {0}|são {0}|saint {0}|sainte {0}|rio {0}"
    "|villa {0}|casa {0}|castello {0}|castillo de {0}|château de {0}|schloss {0}|palazzo {0}"
    "|piazza {0}|plaza {0}|puerto {0}|monte {0}|mont {0}|bad {0}|von {0}|van {0}|van der {0}|al {0}"
    "|{0} am {1}|{0} an der {1}|{0} sur {1}|{0} and {1}|{0} {1}|{0}"
)


def read_wordnet_words(folder: Path) -> tuple[set[str], set[str], list[str]]:
    """Return WordNet's words of small letters, its other words, and its lemmas and short glosses.

    All are in lower case.
    """
    words: set[str] = set()
    names: set[str] = set()
    phrases = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            for lemma in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
                phrases.append(lemma.replace("_", " ").lower())
                found = re.findall(r"[a-z]{2,}", lemma.lower())
                (words if lemma.islower() else names).update(found)
            gloss = line.partition("|")[2].split(";")[0].strip()
            phrases.append(" ".join(gloss.split()[:8]))
        for line in (folder / f"{part}.exc").read_text(encoding="utf-8").splitlines():
            words.update(re.findall(r"[a-z]{2,}", line))
    return words, names - words, phrases


def read_emojibase(folder: Path, code: str) -> tuple[list[str], list[str]]:
    """Return the labels and the tags of a language."""
    records = json.loads((folder / code / "data.json").read_text(encoding="utf-8"))
    labels = [str(record["label"]) for record in records]
    tags = sorted({str(tag) for record in records for tag in record.get("tags", ())})
    return labels, tags


def minilm_words() -> list[str]:
    """Return the whole words of the vocabulary, most frequent first."""
    vocabulary = Tokenizer.from_file(str(heads.tokenizer_path())).get_vocab()
    return [
        word
        for word, _ in sorted(vocabulary.items(), key=lambda item: item[1])
        if re.fullmatch(r"[a-z]{2,}", word)
    ]


def misspell(word: str, rng: random.Random) -> str:
    """Return a word with one typing error."""
    if len(word) < 4:
        return word
    place = rng.randrange(1, len(word) - 1)
    letter = rng.choice("abcdefghijklmnopqrstuvwxyz")
    return rng.choice(
        [
            word[:place] + word[place + 1 :],
            word[:place] + letter + word[place:],
            word[:place] + letter + word[place + 1 :],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        ]
    )


def make_phrases(
    labels: list[str], tags: list[str], function_words: list[str], rng: random.Random
) -> Iterator[str]:
    """Yield texts like queries: single words, labels, and words joined by function words."""
    words = sorted({word for text in labels + tags for word in text.split()})
    for _ in range(PHRASES):
        kind = rng.random()
        if kind < 0.35:
            yield rng.choice(tags)
        elif kind < 0.5:
            yield rng.choice(labels)
        elif kind < 0.6:
            yield rng.choice(words)
        else:
            parts = []
            for _ in range(rng.randint(1, 3)):
                if function_words and rng.random() < 0.8:
                    parts += rng.sample(function_words, rng.randint(1, min(2, len(function_words))))
                parts += [rng.choice(tags) for _ in range(rng.randint(1, 2))]
            yield " ".join(parts)


def make_english(
    phrases: list[str],
    vocabulary: list[str],
    names: list[str],
    labels: list[str],
    tags: list[str],
    rng: random.Random,
) -> Iterator[str]:
    """Yield English texts, names and typing errors; texts of listed words alone teach nothing."""
    function_words = ENGLISH.split()
    yield from make_phrases(labels, tags, function_words, rng)
    yield from rng.sample(phrases, 4 * PHRASES)
    for _ in range(2 * PHRASES):
        yield rng.choice(PLACE_PARTS.split("|")).format(rng.choice(names), rng.choice(names))
    for word in vocabulary:
        yield word
        yield f"{word} {rng.choice(vocabulary)}"
        yield f"{rng.choice(function_words)} {misspell(word, rng)}"
    for _ in range(4 * PHRASES):
        words = rng.choice(phrases).split() or ["thing"]
        words[rng.randrange(len(words))] = misspell(rng.choice(words), rng)
        yield " ".join(words)


def train(texts: list[tuple[str, int]]) -> np.ndarray:
    """Train a linear model of hashed n-grams and return its int8 weights, (buckets, languages)."""
    rows = [(language.text_buckets(language.split_words(text)), label) for text, label in texts]
    rows = [(buckets, label) for buckets, label in rows if len(buckets) > 1]
    model = torch.nn.EmbeddingBag(language.BUCKETS, len(language.LANGUAGES), mode="sum")
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    steps = EPOCHS * (len(rows) // 512)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for epoch in range(EPOCHS):
        random.Random(epoch).shuffle(rows)  # noqa: S311
        total = 0.0
        for start in range(0, len(rows) - 511, 512):
            batch = rows[start : start + 512]
            lengths = torch.tensor([len(buckets) for buckets, _ in batch])
            flat = torch.tensor([bucket for buckets, _ in batch for bucket in buckets])
            offsets = torch.cumsum(lengths, 0) - lengths
            scores = model(flat, offsets) / lengths[:, None].sqrt()
            loss = torch.nn.functional.cross_entropy(
                scores, torch.tensor([label for _, label in batch])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.weight.clamp_(-MAX_WEIGHT, MAX_WEIGHT)
            total += loss.item()
        print(f"epoch {epoch}: loss {total / (len(rows) // 512):.4f}")
    return np.round(model.weight.detach().numpy() / language.WEIGHT_SCALE).astype(np.int8)


def write_common_words(
    path: Path, vocabulary: list[str], english: set[str], words: set[str], wordnet: Path
) -> None:
    """Write the common English words that are no names, each with its rank.

    They are those of the starter's concepts and of emojibase, which rank `CONCEPT_ADVANTAGE` times
    higher, those that WordNet's authors met in texts, and those of the vocabulary.

    Args:
        path: File to write.
        vocabulary: Words, most frequent first.
        english: The words of emojibase.
        words: WordNet's words that are no names.
        wordnet: Folder of WordNet.
    """
    senses = (wordnet / "cntlist.rev").read_text(encoding="utf-8").split("\n")
    frequency = {word: rank for rank, word in enumerate(vocabulary)}
    ranks = dict.fromkeys((sense.partition("%")[0] for sense in senses), len(vocabulary))
    ranks |= frequency
    concepts = load_concepts(read_wordnet(wordnet / "data.noun"))
    for word in english.union(*(concept.words for concept in concepts)):
        ranks[word] = frequency.get(word, len(vocabulary)) // CONCEPT_ADVANTAGE
    lines = [
        f"{word} {rank}\n"
        for word, rank in sorted(ranks.items())
        if word in words and re.fullmatch("[a-z]{3,}", word)
    ]
    path.write_text("".join(lines), encoding="ascii")


def build(cache: Path, folder: Path, *, words_only: bool) -> None:
    """Fetch the sources and write the files; the model is kept if only words are wanted."""
    wordnet = fetch_debian("wordnet-base", cache) / "usr/share/wordnet"
    emojibase = fetch_npm(EMOJIBASE, EMOJIBASE_VERSION, cache)
    rng = random.Random(SEED)  # noqa: S311
    wordnet_words, wordnet_names, phrases = read_wordnet_words(wordnet)
    vocabulary = minilm_words()
    sources = {code: read_emojibase(emojibase, code) for code in language.LANGUAGES}
    english: set[str] = set()
    for labels, tags in (sources["en"], read_emojibase(emojibase, "en-gb")):
        english |= {word for text in labels + tags for word in language.split_words(text)}
    folder.mkdir(exist_ok=True)
    foreign = {
        word
        for code, (labels, tags) in sources.items()
        if code != "en"
        for text in labels + tags
        for word in language.split_words(text)
    }
    functions = {word for words in FUNCTION_WORDS.values() for word in words.split()}
    write_common_words(folder / "common.txt", vocabulary, english, wordnet_words, wordnet)
    listed = wordnet_words | english | ((wordnet_names | set(vocabulary)) - foreign)
    listed = (listed - functions) | set(f"{SHARED} {ENGLISH} {BRANDS}".split())
    listed = {word for word in listed if re.fullmatch(r"[a-z]{2,}", word)}
    (folder / "english.txt").write_text("".join(f"{w}\n" for w in sorted(listed)), encoding="ascii")
    # Training needs the new list.
    language._read_words.cache_clear()  # noqa: SLF001
    language.is_english_word.cache_clear()
    texts = [
        (text, number)
        for number, code in enumerate(language.LANGUAGES)
        if code != "en"
        for text in make_phrases(*sources[code], FUNCTION_WORDS.get(code, "").split(), rng)
    ]
    texts += [
        (text, 0)
        for text in make_english(phrases, vocabulary, sorted(wordnet_names), *sources["en"], rng)
    ]
    print(f"{len(listed)} English words, {len(texts)} texts")
    if not words_only:
        np.save(folder / "languages.npy", train(texts))


def main() -> int:
    """Parse the arguments and run the build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    parser.add_argument("--words-only", action="store_true", help="do not train the model again")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    try:
        folder = Path(language.__file__).with_name("language_data")
        build(arguments.cache, folder, words_only=arguments.words_only)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
