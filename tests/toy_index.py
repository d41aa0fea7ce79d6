"""A toy modality and a toy encoder, to test the engine without weights or pictures."""

import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from mmsearch.core.errors import DecodeError, MMSearchError
from mmsearch.core.files import (
    clamped_ctime_ns,
    clamped_mtime_ns,
    decode_error_from_os,
    open_source_file,
)
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.core.records import CollectedTexts, ScannedFile, ScannedFolder, Sidecar
from mmsearch.core.settings import Settings
from mmsearch.core.types import (
    DEFAULT_SOURCES,
    WHOLE,
    Calibration,
    DecodedImage,
    EncoderSpec,
    FusionSpec,
    ItemLocator,
    Picture,
    Text,
    TextItem,
)
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.executors import processes, threads
from mmsearch.factories import catalogs, indexing, plugins, search
from mmsearch.indexing.texts import TextCollector
from mmsearch.maintenance import import_embeddings
from mmsearch.search.engine import SearchEngine
from mmsearch.search.query_parser import parse_query
from mmsearch.storage.layout import IndexLayout

EDGE = 4


def seeded_pixels(content: bytes) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return np.random.default_rng(seed).integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)


@dataclass(frozen=True)
class ToyModality:
    """Reads a file as a picture of noise that its content seeds, unless it begins with bad."""

    missing_extra = None
    kind = "image"
    max_items = 1

    def can_read(self, path):
        return path.endswith(b".toy")

    def recognizes(self, head):
        return head.startswith(b"toy ")

    def items(self, path, edge_px, first_part=0, known=WHOLE):
        if first_part == 0:
            yield self.read(path, edge_px)

    def read(self, path, edge_px):
        content = read_content(path)
        if content.startswith(b"bad"):
            raise DecodeError("it is bad")
        return DecodedImage(Picture(EDGE, EDGE, "TOY"), seeded_pixels(content))

    def thumbnail(self, path, edge_px, file_format="JPEG", locator=WHOLE):
        raise DecodeError("there are no thumbnails of toys")


@dataclass(frozen=True)
class ToyFilmModality:
    """Reads each line of a file as a moment of a second: what seeds its pixels | its caption.

    A line "bad" cannot be read.
    """

    missing_extra = None
    kind = "video"
    max_items = 5000

    def can_read(self, path):
        return path.endswith(b".film")

    def recognizes(self, head):
        return head.startswith(b"film\n")

    def items(self, path, edge_px, first_part=0, known=WHOLE):
        lines = read_content(path).splitlines()[1:]
        for part, line in enumerate(lines[first_part:], start=first_part):
            seed, _, caption = line.partition(b"|")
            if seed == b"bad":
                raise DecodeError("a moment is bad")
            texts = (Text("caption", caption.decode()),) if caption else ()
            picture = Picture(EDGE, EDGE, "TOY", texts=texts)
            locator = ItemLocator(part, 1000 * part, 1000 * part + 1000)
            yield DecodedImage(picture, seeded_pixels(seed), locator)

    def thumbnail(self, path, edge_px, file_format="JPEG", locator=WHOLE):
        lines = read_content(path).splitlines()[1:]
        return b"thumbnail of " + lines[locator.part]


class ToyNoteModality:
    """Reads each line of a file as an item of texts alone."""

    missing_extra = None
    kind = "sound"
    max_items = 1000

    def can_read(self, path):
        return path.endswith(b".note")

    def recognizes(self, head):
        return head.startswith(b"note\n")

    def items(self, path, edge_px, first_part=0, known=WHOLE):
        lines = read_content(path).decode().splitlines()[1:]
        for part, line in enumerate(lines[first_part:], start=first_part):
            if line == "bad":
                raise DecodeError("a line is bad")
            picture = Picture(0, 0, "TOY", texts=(Text("caption", line),))
            yield TextItem(picture, ItemLocator(part, 1000 * part, 1000 * part + 1000))

    def thumbnail(self, path, edge_px, file_format="JPEG", locator=WHOLE):
        return b"thumbnail of a note"


def read_content(path):
    with open_source_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise decode_error_from_os(error) from error


@dataclass(frozen=True)
class ToyPreprocess:
    edge_px: int = EDGE

    def __call__(self, pixels):
        return pixels


class ToyEncoder:
    """Encodes pixels as a vector, and a text as the picture that it seeds."""

    spec = EncoderSpec("toy", EDGE * EDGE * 3, "0" * 64, {}, 1, 16)
    image_preprocessor = batch_preprocessor = ToyPreprocess()
    batch_size = 4
    prompts = ("{}",)
    calibration = Calibration()

    def __init__(self):
        self.encoded = 0

    def prepare(self, kind, payload):
        return seeded_pixels(payload.encode()) if kind == "text" else payload

    def dropped_tokens(self, text):
        return max(0, len(text.split()) - 16)

    def encode(self, kind, batch):
        if kind == "image":
            self.encoded += len(batch)
        rows = np.array([item.reshape(-1) for item in batch], dtype=np.float32)
        return as_unit_vectors(rows.reshape(-1, self.spec.dim) - 127.5)

    def token_vectors(self, kind, batch):
        return [self.encode("text", [item, item[::-1]]) for item in batch]

    def device(self, kind):
        return "toy"


class ToyWalk:
    def __init__(self, request):
        self.folder = request.folder
        self.unreadable = []

    def __iter__(self):
        for folder, _, names in sorted(os.walk(self.folder)):
            files = list(self.files(folder, names))
            path = os.path.relpath(folder, self.folder) if folder != self.folder else b""
            facts = [
                (os.path.basename(file.path), file.size, file.mtime_ns)
                for toy_file in files
                for file in (toy_file, *toy_file.sidecars)
            ]
            digest = hashlib.sha256(repr(facts).encode()).digest()
            yield ScannedFolder(path, digest, len(files), lambda files=files: iter(files))

    def files(self, folder, names):
        for name in sorted(names):
            path = os.path.join(folder, name)
            facts = os.stat(path)
            if not path.endswith((b".toy", b".film", b".note")):
                continue
            relative = os.path.relpath(path, self.folder)
            sidecars = ()
            if os.path.exists(path + b".txt"):
                sidecar_stat = os.stat(path + b".txt")
                sidecars = (
                    Sidecar(
                        relative + b".txt", sidecar_stat.st_size, clamped_mtime_ns(sidecar_stat)
                    ),
                )
            yield ScannedFile(
                relative,
                facts.st_size,
                clamped_mtime_ns(facts),
                sidecars,
                clamped_ctime_ns(facts),
            )


def read_sidecar_texts(root, file):
    """Read the caption of a toy from its sidecar."""
    texts = tuple(
        Text("caption", Path(os.fsdecode(os.path.join(root, s.path))).read_text(), None, "sidecar")
        for s in file.sidecars
    )
    return CollectedTexts(texts)


def make_toys(encoder=None):
    """Return what replaces encoders, modalities and processes: {(module, name): replacement}."""
    encoder = encoder or ToyEncoder()

    def make_encoder(model, settings, on_message, fingerprint=""):
        return encoder

    def make_modalities(settings):
        return (ToyModality(), ToyFilmModality(), ToyNoteModality())

    def build(workers, timeout_s, memory_mb=0):
        return threads.build(1)

    return {
        (plugins, "make_encoder"): make_encoder,
        (indexing, "make_encoder"): make_encoder,
        (import_embeddings, "make_encoder"): make_encoder,
        (indexing, "make_modalities"): make_modalities,
        (search, "make_modalities"): make_modalities,
        (indexing, "choose_model"): lambda settings, on_message: "toy",
        (processes, "build"): build,
    }


def install_toys():
    """Use toys in every command that this process runs."""
    for (module, name), toy in make_toys().items():
        setattr(module, name, toy)


@contextmanager
def replaced(replacements):
    """Replace attributes, {(module, name): replacement}, during the context."""
    with ExitStack() as stack:
        for (module, name), replacement in replacements.items():
            stack.enter_context(patch.object(module, name, replacement))
        yield


@contextmanager
def toy_indexer(
    layout: IndexLayout,
    encoder=None,
    vector_index="exact",
    *,
    fusion=FusionSpec(),  # noqa: B008 - frozen
    sources=DEFAULT_SOURCES,
    captions=None,
):
    """Yield an indexer of toy pictures that holds the lock."""
    encoder = encoder or ToyEncoder()
    toys = make_toys(encoder) | {
        (indexing, "load_index_encoder"): lambda identity, settings, on_message: encoder,
        (indexing, "parse_text_sources"): lambda texts: sources,
        (indexing, "walk_request"): lambda request, modalities, recall: ToyWalk(request),
        (indexing, "make_text_collector"): lambda request, sources: TextCollector(
            sources, read_sidecar_texts, _as_caption_table(captions)
        ),
    }
    settings = Settings(
        fusion=fusion.name, text_weight=fusion.text_weight, vector_index=vector_index, device="cpu"
    )
    with (
        replaced(toys),
        catalogs.open_write(layout, 0, create=True) as catalog,
        indexing.make_indexer(layout, catalog, settings, print, texts="toy") as indexer,
    ):
        yield indexer


@dataclass(frozen=True)
class ToyCaptionTable:
    """A table whose captions are matched already."""

    path: bytes
    captions: dict
    report: object = None

    def match(self, list_paths):
        """Find nothing more."""


def _as_caption_table(captions):
    """Return captions as a table: wrap a mapping; keep None and finished tables."""
    is_mapping = isinstance(captions, dict)
    return ToyCaptionTable(b"/captions.csv", captions) if is_mapping else captions


class ToyImageLoader:
    """Loads a query picture as the noise that its content seeds."""

    def __call__(self, path, prepare):
        return prepare(seeded_pixels(path.read_bytes()))


@contextmanager
def toy_engine(layout: IndexLayout, encoder=None, open_store=None):
    """Yield a search engine over an index of toy pictures.

    Args:
        layout: The index.
        encoder: Encoder of the index.
        open_store: Opens the vector store of a snapshot; None: that of the files.
    """
    encoder = encoder or ToyEncoder()
    toys = {
        (search, "load_index_encoder"): lambda identity, settings, on_message: encoder,
        (search, "SearchEngine"): ToyEngine,
    }
    with catalogs.open_read(layout) as catalog:
        with replaced(toys):
            engine = search.make_search_engine(
                layout,
                catalog,
                catalog.identity(),
                ToyImageLoader(),
                Settings(device="cpu"),
                print,
            )
        if open_store is not None:
            engine._open_store = open_store
        yield engine


class ToyEngine(SearchEngine):
    """Answers one query: a literal text or a line of the query language."""

    def search(self, request):
        (answer,) = self.answer(self.encode([request]))
        if isinstance(answer, MMSearchError):
            raise answer
        return answer

    def search_text(self, text, k, mode=None, **options):
        return self.search(SearchRequest(Query((Term(text),), mode=mode), k, **options))

    def search_line(self, line, k, **options):
        return self.search(SearchRequest(Query(parse_query(line), **options), k))
