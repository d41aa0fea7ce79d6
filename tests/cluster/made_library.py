# ruff: noqa: RUF001 - letters of other scripts
"""A made library of several hundred items, for comparisons of catalogs by value."""

import random

from mmsearch.core.derived import DerivedFile, DerivedState, DerivedTexts
from mmsearch.core.duplicates import DuplicateRow, DuplicateState
from mmsearch.core.records import (
    RECORDS_KIND,
    EncodedPicture,
    FileRef,
    FolderRecord,
    IndexedFile,
    ScannedFile,
    ShardCommit,
    SkippedFile,
)
from mmsearch.core.types import ItemLocator, Picture, Text
from tests.unit.catalog.samples import IDENTITY, built, digest_of, segment

CAPTIONS = {
    "en": (
        "A dog runs along the beach at sunset",
        "Two dogs running on the beaches of Brighton",
        "The painter's paintings: a black-and-white cat, painted in the U.S.A. in 1999",
        "Hamburger and fries, it's possibly the best meal as is",
        "Cafes of the old town",
        "IMG_2034.jpg from https://example.com/a/b?c=d by me@example.com, 3.14 x 1e5",
        "US troops; us too",
        "The 1st of 2nd-hand cars, 35mm film, x100v",
    ),
    "de": (
        "Eine Straße in München mit großen Häusern",
        "Die Strasse nach Muenchen, ein Fußball und Fussballer",
        "Der Bäcker backt Brötchen am Wochenende",
    ),
    "fr": (
        "Un café près de l'église, l'été à Évora",
        "Des cafés et des crêpes, ça c'est naïf",
        "Les chevaux du château et leur œuvre",
    ),
    "pl": ("Łódź nad rzeką", "Lodz by the river", "Żółta łódka na jeziorze"),
    "da": ("Rødgrød med fløde på Ærø", "En smuk dag på Aero, øl og brød"),
    "tr": ("İstanbul'da güneşli bir gün, ışık",),
    "el": ("Η θάλασσα και ο ήλιος στην Αθήνα", "ΟΔΥΣΣΕΥΣ"),
    "ru": ("Собака бежит по пляжу", "Ёлка и ежик в тумане"),
    "ja": ("東京タワーの夜景写真", "犬とビーチ", "iPhoneで撮った桜の写真"),
    "zh": ("北京的长城照片", "狗在海滩上跑", "长"),
    "th": ("สุนัขวิ่งบนชายหาด",),
    "ko": ("해변에서 뛰는 개",),
    "hi": ("समुद्र तट पर कुत्ता",),
    "ar": ("كلب يجري على الشاطئ",),
}
PEOPLE = ("Anna Schmidt", "Émile Zola", "Bob", "李雷", "anna schmidt", "José da Silva")
PLACES = ("Lisbon; Portugal", "Lissabon", "Évora; Portugal; Europe", "München", "東京")
TAGS = ("Beach; sea", "straße", "STRASSE; Été", "dog", "Dog; pet", "b", "2019", "golden hour")
CAMERAS = ("Nikon D700", "NIKON D700", "Canon EOS R5", "ÉCLAIR 16", "éclair 16", None)
LENSES = ("EF 50mm", "Summilux-M 1:1.4/50", "éclair", None)
DATES = (
    *(f"20{year:02}-0{month}-1{month}T0{month}:11:12" for year in (9, 15, 20) for month in (3, 7)),
    "2020-05-17T00:00:00",
    "1999-12-31T23:59:59",
    None,
    None,
)
COORDINATES = ((48.86, 2.35), (38.72, -9.14), (35.68, 139.69), (0.0, -179.99), (None, None))
FOLDERS = (b"", b"trips/", b"Trips/", b"trips/Lisbon 2019/", b"fa\xffmily/\xc3\xa9t\xc3\xa9/")
RECORDS = (
    {"price": 12, "title": "Straße", "tags": ["Blau", "grün", 3], "sold": True, "id": "A-1"},
    {"price": 12.5, "title": "strasse", "tags": "blau", "sold": False, "nothing": None},
    {"price": "12", "title": 12, "tags": [], "inner": {"a": 1}, "size": 2**60},
    {"price": -0.1, "title": "a\0b É", "other": 9007199254740993, "width": 641},
    {},
)
FIRST_RECORD = 1_000_000
SPEECH = ("hello there", "we see a dog", "and the sea", "it is raining in Lisbon", "good bye")


def fill(catalog, pictures=300, seed=7):
    """Write the library to an empty catalog: folders, records, a film, a document, a sound."""
    rng = random.Random(seed)
    catalog.set_identity(IDENTITY)
    root, _ = catalog.ensure_root(b"/photos", "photos")
    other, _ = catalog.ensure_root(b"/more", "more")
    records = catalog.ensure_source(RECORDS_KIND, b"", {"texts": True}, "records")
    for start in range(0, pictures, 100):
        _commit_pictures(catalog, rng, root.id, range(start, min(start + 100, pictures)))
    _commit_pictures(catalog, rng, other.id, range(50, 80), b"copy-")
    _commit_records(catalog, rng, records.id, range(FIRST_RECORD, FIRST_RECORD + 40))
    _commit_parts(catalog, root.id)
    catalog.commit_shard(
        ShardCommit(
            root.id,
            9,
            failed=[(_file(b"broken.jpg", 5), digest_of("broken"), "It is truncated.")],
            removed=[b"%d.jpg" % number for number in range(0, 20, 5)],
        )
    )
    _add_derived(catalog, rng, pictures)
    catalog.publish(built(2))
    states = [SkippedFile(b"notes.txt", "no picture", 3, 4), SkippedFile(b"a/b.txt", "text", 5, 6)]
    catalog.save_skipped(root.id, states, [])
    catalog.save_skipped_counts(root.id, b"", [("text", "no picture", 2)])
    catalog.save_folder_states(other.id, b"", {b"": FolderRecord(b"stamp", 30, 0)})
    rows = [DuplicateRow(40, 40, 40), DuplicateRow(41, 40, 40), DuplicateRow(42, 40, 42)]
    rows += [DuplicateRow(60, 60, 60), DuplicateRow(61, 60, 60)]
    catalog.duplicates.save(rows, DuplicateState(1, "e", 300, 300, 0.5, 300, 5, 7), replace=False)
    words = catalog.suggestions.collect()
    catalog.suggestions.save(words, catalog.suggestions.current_state("encoder", "vocabulary"))
    run = catalog.begin_run()
    catalog.finish_run(run, "finished", {"added": 3}, root.id)


def _file(path, number):
    return ScannedFile(
        path, 10 + number, (number * 7_654_321_987) * 10**6 % (2 * 10**18), ctime_ns=3
    )


def _texts(rng):
    texts = []
    for language, captions in rng.sample(sorted(CAPTIONS.items()), rng.choice((0, 1, 1, 2))):
        kind = rng.choice(("caption", "description", "title"))
        texts.append(Text(kind, rng.choice(captions), language, "metadata"))
    for kind, values in (("keywords", TAGS), ("people", PEOPLE), ("place", PLACES)):
        if rng.random() < 0.3:
            texts.append(Text(kind, rng.choice(values), None, "metadata"))
    return tuple(texts)


def _picture(rng):
    latitude, longitude = rng.choice(COORDINATES)
    return Picture(
        rng.choice((640, 641, 480, 4000)),
        rng.choice((480, 640, 3000)),
        rng.choice(("JPEG", "PNG", "WEBP")),
        damage=rng.choice((None, None, None, "Größe unklar")),
        taken_at=rng.choice(DATES),
        camera=rng.choice(CAMERAS),
        lens=rng.choice(LENSES),
        latitude=latitude,
        longitude=longitude,
        rating=rng.choice((-1, 0, 3, 5, None)),
        label=rng.choice(("Red", "Grün", None)),
        texts=_texts(rng),
    )


def _commit_pictures(catalog, rng, root_id, numbers, prefix=b""):
    first_id, number = catalog.next_free_ids()
    known = catalog.find_item_ids([digest_of(str(each)) for each in numbers])
    new = [each for each in numbers if digest_of(str(each)) not in known]
    pictures = [
        EncodedPicture(
            first_id + place,
            digest_of(str(each)),
            _picture(rng),
            perceptual_hash=rng.choice((None, rng.randrange(-(2**63), 2**63))),
        )
        for place, each in enumerate(new)
    ]
    indexed = []
    for each in numbers:
        name = b"%s%s%d.jpg" % (rng.choice(FOLDERS) if each % 5 else b"", prefix, each)
        words = name.decode("utf-8", "replace").replace("/", " ").removesuffix(".jpg")
        texts = [
            Text("filename", f"{words} {rng.choice(('beach', 'IMG', 'Straße'))}", None, "filename")
        ]
        if each % 7 == 0:
            texts.append(Text("caption", rng.choice(CAPTIONS["en"]), "en", "sidecar"))
        indexed.append(IndexedFile(_file(name, each), digest_of(str(each)), texts))
    made = segment(number, len(pictures)) if pictures else None
    catalog.commit_shard(ShardCommit(root_id, 5, made, pictures, indexed))


def _commit_records(catalog, rng, source_id, numbers):
    first_id, number = catalog.next_free_ids()
    pictures = [
        EncodedPicture(first_id + place, digest_of(str(each)), _picture(rng))
        for place, each in enumerate(numbers)
    ]
    indexed = [
        IndexedFile(
            _file(b"key-%d" % each, each),
            digest_of(str(each)),
            [Text("caption", rng.choice(CAPTIONS["de"]), "de", "metadata")] if each % 2 else [],
            part=b"part %d" % (each % 3),
            stamp=b"stamp" if each % 4 else None,
            metadata=rng.choice(RECORDS),
        )
        for each in numbers
    ]
    # A second place of the same content, with other metadata.
    indexed += [
        IndexedFile(
            _file(b"again-%d" % each, each),
            digest_of(str(each)),
            part=b"part 9",
            stamp=b"s",
            metadata=rng.choice(RECORDS),
        )
        for each in list(numbers)[:10]
    ]
    shard = ShardCommit(source_id, 6, segment(number, len(pictures)), pictures, indexed)
    catalog.commit_shard(shard)


def _commit_parts(catalog, root_id):
    """Commit a film of 30 moments, a document of 6 pages, and a sound of 3 minutes."""
    first_id, number = catalog.next_free_ids()

    def make(item_id, content, kind, locator, *texts):
        width = 0 if kind == "sound" else 1920
        facts = Picture(width, width // 2, "MP4", taken_at="2021-01-02T03:04:05", texts=texts)
        return EncodedPicture(item_id, digest_of(content), facts, locator=locator, kind=kind)

    film = [
        make(
            first_id + part,
            "film",
            "video",
            ItemLocator(part, part * 4000, part * 4000 + 3999),
            *(
                [Text("subtitle", SPEECH[part % 5], "en", "metadata", start_ms=part * 4000)]
                if part % 3
                else []
            ),
        )
        for part in range(30)
    ]
    pages = [
        make(
            first_id + 30 + part,
            "document",
            "document",
            ItemLocator(part, page=part + 1),
            Text("page", f"Page {part + 1}: {CAPTIONS['en'][part]}", "en", "metadata"),
        )
        for part in range(6)
    ]
    sounds = [
        make(
            first_id + 36 + part,
            "sound",
            "sound",
            ItemLocator(part, part * 60_000, part * 60_000 + 59_999),
            Text("transcript", SPEECH[part], "en", "metadata"),
        )
        for part in range(3)
    ]
    files = [
        IndexedFile(_file(name, size), digest_of(content))
        for size, (name, content) in enumerate(
            ((b"film.mp4", "film"), (b"doc.pdf", "document"), (b"sound.mp3", "sound"))
        )
    ]
    parts = [*film, *pages]
    catalog.commit_shard(
        ShardCommit(root_id, 7, segment(number, len(parts)), parts, files, text_items=sounds)
    )


def _add_derived(catalog, rng, pictures):
    for number, (enricher, kind) in enumerate(
        (("tags", "tag"), ("ocr", "ocr"), ("captions", "caption")), 1
    ):
        contents = []
        for each in range(number, pictures, 4 + number):
            word = rng.choice(("beach", "dog", "street", "Straße", "screenshot", "sunset"))
            text = Text(kind, word, None, enricher, "model 1", rng.choice((0.2, 0.6, None)))
            state = DerivedState.FAILED if each % 11 == 0 else DerivedState.DONE
            texts = {} if state is DerivedState.FAILED else {0: (text,)}
            error = "It is broken." if state is DerivedState.FAILED else None
            contents.append(
                DerivedTexts(
                    digest_of(str(each)),
                    enricher,
                    "model 1",
                    texts,
                    state,
                    seconds=0.5,
                    error=error,
                )
            )
        name = f"derived/{number:06d}-{number:016x}.jsonl.gz"
        file = DerivedFile(number, FileRef(name, 100, f"{number:064x}"), len(contents))
        catalog.derived.commit(file, contents)
