"""A toy modality and a toy encoder: the engine is tested without weights or pictures."""

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmsearch.core.errors import DecodeError, MMSearchError
from mmsearch.core.files import open_regular, refused_file, stored_mtime_ns
from mmsearch.core.queries import Query, Term
from mmsearch.core.records import FoundTexts, SeenFile, SeenFolder, Sidecar
from mmsearch.core.requests import SearchRequest
from mmsearch.core.texts import DEFAULT_SOURCES
from mmsearch.core.types import Calibration, Decoded, EncoderSpec, FusionSpec, Picture, Text
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.executors import local
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import index_builder
from mmsearch.factories.plugins import make_blend, make_fusion, vector_index_plugin
from mmsearch.indexing.decode import MakeDecoder
from mmsearch.indexing.indexer import Indexer
from mmsearch.indexing.text_collector import CaptionTable, FileTexts
from mmsearch.search.engine import SearchEngine
from mmsearch.search.index_reader import ViewLoader
from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.query_parser import parse_query
from mmsearch.search.stored_vectors import StoredPictures
from mmsearch.storage.layout import IndexLayout

EDGE = 4


def pixels_of(content: bytes) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return np.random.default_rng(seed).integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)


@dataclass(frozen=True)
class ToyModality:
    """Any file is a picture of noise that its content seeds, unless it begins with bad."""

    def claims(self, path):
        return path.endswith(b".toy")

    def read(self, path, edge_px):
        with open_regular(path) as file:
            try:
                content = file.read()
            except OSError as error:
                raise refused_file(error) from error
        if content.startswith(b"bad"):
            raise DecodeError("it is bad")
        return Decoded(Picture(EDGE, EDGE, "TOY"), pixels_of(content))

    def thumbnail(self, path, edge_px, file_format="JPEG"):
        raise DecodeError("there are no thumbnails of toys")


@dataclass(frozen=True)
class ToyPreparation:
    edge_px: int = EDGE

    def __call__(self, pixels):
        return pixels


class ToyEncoder:
    """Pixels as a vector; a text is the picture that it seeds."""

    spec = EncoderSpec("toy", EDGE * EDGE * 3, "0" * 64, {}, 1, 16)
    image_preparation = bulk_preparation = ToyPreparation()
    batch_size = 4
    prompts = ("{}",)
    calibration = Calibration()

    def __init__(self):
        self.encoded = 0

    def prepare(self, kind, payload):
        return pixels_of(payload.encode()) if kind == "text" else payload

    def dropped_tokens(self, text):
        return max(0, len(text.split()) - 16)

    def encode(self, kind, batch):
        if kind == "image":
            self.encoded += len(batch)
        rows = np.array([item.reshape(-1) for item in batch], dtype=np.float32)
        return as_unit_vectors(rows.reshape(-1, self.spec.dim) - 127.5)

    def parts(self, kind, batch):
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
                for each in files
                for file in (each, *each.sidecars)
            ]
            digest = hashlib.sha256(repr(facts).encode()).digest()
            yield SeenFolder(path, digest, len(files), lambda files=files: iter(files))

    def files(self, folder, names):
        for name in sorted(names):
            path = os.path.join(folder, name)
            facts = os.stat(path)
            if not path.endswith(b".toy"):
                continue
            relative = os.path.relpath(path, self.folder)
            sidecars = ()
            if os.path.exists(path + b".txt"):
                beside = os.stat(path + b".txt")
                sidecars = (Sidecar(relative + b".txt", beside.st_size, stored_mtime_ns(beside)),)
            yield SeenFile(relative, facts.st_size, stored_mtime_ns(facts), sidecars)


def gather(root, file):
    """A toy's sidecar holds its caption."""
    texts = tuple(
        Text("caption", Path(os.fsdecode(os.path.join(root, s.path))).read_text(), None, "sidecar")
        for s in file.sidecars
    )
    return FoundTexts(texts)


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
    """An indexer of toy pictures, under the lock."""
    encoder = encoder or ToyEncoder()
    executors = [local.build(1), local.build(2), local.build(2)]
    with catalogs.writing(layout, 0, create=True) as catalog:
        try:
            bound = catalog.identity()
            yield Indexer(
                layout=layout,
                catalog=catalog,
                encoder=encoder,
                fusion=make_fusion(bound.fusion if bound else fusion),
                vector_index=vector_index,
                builder=index_builder(layout, catalog, lambda: encoder),
                sources=sources,
                walk=ToyWalk,
                find_texts=lambda request: FileTexts(sources, gather, _table(captions)),
                make_decoder=MakeDecoder((ToyModality(),), encoder.image_preparation),
                decode=executors[0],
                shards=executors[1],
                hashing=executors[2],
            )
        finally:
            for executor in executors:
                executor.close()


def _table(captions):
    """What is said by path comes from one table; else it is a table with a name."""
    plain = captions is None or isinstance(captions, CaptionTable)
    return captions if plain else CaptionTable(b"/captions.csv", captions)


@contextmanager
def toy_engine(layout: IndexLayout, encoder=None):
    """A search engine over an index of toy pictures."""
    with catalogs.reading(layout) as catalog:
        loader = ViewLoader(layout, vector_index_plugin, "exact", "cpu", make_fusion)
        encoder = encoder or ToyEncoder()
        yield ToyEngine(
            catalog,
            loader,
            encoder,
            QueryEncoder(
                encoder,
                lambda path, prepare: prepare(pixels_of(path.read_bytes())),
                pictures=StoredPictures(layout, catalog),
            ),
            make_fusion,
            make_blend,
            "weighted_sum",
        )


class ToyEngine(SearchEngine):
    """Answers one query: a text as it stands, or a line of the query language."""

    def search(self, request):
        (answer,) = self.answer(self.encode([request]))
        if isinstance(answer, MMSearchError):
            raise answer
        return answer

    def search_text(self, text, k, mode=None, **more):
        return self.search(SearchRequest(Query((Term(text),), mode=mode), k, **more))

    def search_line(self, line, k, **more):
        return self.search(SearchRequest(Query(parse_query(line), **more), k))
