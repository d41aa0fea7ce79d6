"""Random exports: strategies for pictures with facts, texts, paths and vectors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from mmsearch.core.types import (
    CONTENT_SOURCES,
    DEFAULT_SOURCES,
    IMAGE_KIND,
    MADE_SOURCES,
    EncoderSpec,
    FusionSpec,
    ItemLocator,
    Picture,
    Text,
    TextSource,
)
from mmsearch.exports.formats import PART_FORMATS, load_format
from mmsearch.exports.manifest import Manifest, write_manifest
from mmsearch.exports.pictures import ExportBatch, ExportedPicture, Place
from tests.toy_index import ToyEncoder

SPEC = ToyEncoder.spec
ROOTS = (b"/pictures", b"/other \xff pictures")

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
optional_words = st.none() | words
names = st.binary(min_size=1, max_size=6).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..")
)
keys = st.lists(names, min_size=1, max_size=3).map(b"/".join)
places = st.builds(Place, st.sampled_from(ROOTS), keys)
texts = st.builds(
    Text,
    words,
    words,
    st.none() | st.just("de"),
    st.sampled_from(sorted({*TextSource} - MADE_SOURCES)),
)


def _sort_texts(values):
    order = dict.fromkeys(CONTENT_SOURCES, 0) | {TextSource.TABLE: 2}
    return tuple(sorted(dict.fromkeys(values), key=lambda text: order.get(text.source, 1)))


@st.composite
def pictures(draw):
    """Facts of a picture, as a catalog can store them."""
    place = draw(st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)))
    taken = draw(st.none() | st.datetimes().map(lambda at: at.isoformat(timespec="seconds")))
    return Picture(
        draw(st.integers(0, 100_000)),
        draw(st.integers(0, 100_000)),
        draw(words),
        damage=draw(optional_words),
        taken_at=taken,
        taken_from=None if taken is None else "exif",
        camera=draw(optional_words),
        lens=draw(optional_words),
        latitude=place and place[0],
        longitude=place and place[1],
        rating=draw(st.none() | st.integers(-1, 5)),
        label=draw(optional_words),
        texts=_sort_texts(draw(st.lists(texts, max_size=3))),
    )


@st.composite
def contents(draw, first, format_name):
    """A still picture, or all the moments of a film or pages of a document, by their first item."""
    kinds = [IMAGE_KIND, "video", "document"] if format_name in PART_FORMATS else [IMAGE_KIND]
    kind = draw(st.sampled_from(kinds))
    if kind == IMAGE_KIND:
        return [first]
    parts = draw(st.integers(1, 3))
    items = []
    for part in range(parts):
        locator = (
            ItemLocator(part, 1000 * part, 1000 * part + draw(st.integers(0, 999)))
            if kind == "video"
            else ItemLocator(part, page=part + 1)
        )
        item = replace(first, id=first.id + part, kind=kind, locator=locator, parts=parts)
        if part:
            picture = draw(pictures())
            own = tuple(text for text in picture.texts if text.source in CONTENT_SOURCES)
            item = replace(item, picture=replace(picture, texts=own), text_kinds=draw(text_kinds))
        items.append(item)
    return items


text_kinds = st.lists(st.sampled_from(["caption", "title", "ß"]), max_size=2).map(tuple)


@st.composite
def exported_pictures(draw, max_size=5, format_name="npy"):
    """Pictures of an export, each content with its own paths."""
    all_places = draw(
        st.lists(places, min_size=1, max_size=2 * max_size, unique_by=lambda at: (at.root, at.key))
    )
    count = draw(st.integers(1, min(max_size, len(all_places))))
    items = []
    for number in range(count):
        mine = sorted(all_places[number::count], key=lambda at: at.root + b"/" + at.key)
        first = ExportedPicture(
            len(items) + 1,
            (number + 1).to_bytes(32, "big"),
            tuple(mine),
            draw(st.integers(0, 2**40)),
            draw(st.integers(-(2**63), 2**63 - 1)),
            draw(pictures()),
            draw(st.sampled_from([b"", b"0123456789abcdef"])),
            draw(text_kinds),
        )
        items += draw(contents(first, format_name))
    return items


def add_vectors(items, seed=0, dim=SPEC.dim):
    """Return a batch of pictures with random unit vectors, float16."""
    random = np.random.default_rng(seed)

    def rows(count):
        values = random.standard_normal((count, dim))
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)

    return ExportBatch(items, rows(len(items)), rows(sum(len(each.text_kinds) for each in items)))


def write_export(folder: Path, format_name, batches, spec: EncoderSpec = SPEC, roots=ROOTS):
    """Write an export without an index; return its manifest."""
    settings = {
        "fusion": vars(FusionSpec("weighted")),
        "vector_index": "exact",
        "texts": list(DEFAULT_SOURCES),
        "goals": {},
    }
    has_parts = any(item.kind != IMAGE_KIND for batch in batches for item in batch.pictures)
    manifest = Manifest(format_name, spec, settings, roots, has_parts=has_parts)
    folder.mkdir(parents=True)
    with load_format(format_name).open_writer(folder, manifest) as write:
        for batch in batches:
            write(batch)
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = Manifest(
        format_name,
        spec,
        settings,
        roots,
        pictures=sum(len(batch.pictures) for batch in batches),
        text_vectors=sum(len(batch.texts) for batch in batches),
        files=files,
        has_parts=has_parts,
    )
    write_manifest(folder, manifest)
    return manifest


def edit_manifest(folder: Path, **changes):
    """Change values of the manifest of an export."""
    path = folder / "mmsearch-export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_same_batches(left, right):
    """Compare pictures and the bits of their vectors."""
    left, right = list(left), list(right)
    assert [item for batch in left for item in batch.pictures] == [
        item for batch in right for item in batch.pictures
    ]
    for name in ("images", "texts"):
        ours, theirs = (
            np.concatenate([getattr(batch, name) for batch in side]) for side in (left, right)
        )
        assert ours.dtype == theirs.dtype == np.float16
        assert np.array_equal(ours.view(np.uint16), theirs.view(np.uint16))
