"""Texts of pictures: collected from their sources, and encoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmsearch.core.protocols import CaptionTable, Encoder, Fusion
from mmsearch.core.records import CaptionTableTexts, CollectedTexts, ScannedFile
from mmsearch.core.types import (
    CROSS_ATTENTION,
    EncoderSpec,
    InputKind,
    ModelInput,
    Text,
    TextSource,
    TextVectors,
    Vectors,
    collected_sources,
    select_encoded_texts,
    texts_digest,
)
from mmsearch.core.vectors import encode_model_inputs


class TextEncoder:
    """Encoder for the texts of pictures.

    Args:
        encoder: The index's encoder.
        fusion: The index's fusion. If it has a `cross_attend`, `encode` adds its vector.
        sources: Sources of the texts that are encoded.
    """

    def __init__(self, encoder: Encoder, fusion: Fusion, sources: Sequence[TextSource]) -> None:
        self._encoder = encoder
        self._fusion = fusion
        self._sources = sources

    @property
    def encoder_spec(self) -> EncoderSpec:
        """Spec of the encoder."""
        return self._encoder.spec

    def select(self, texts: Sequence[Text]) -> tuple[Text, ...]:
        """Return the texts of a picture that are encoded."""
        return select_encoded_texts(texts, self._sources)

    def digest(self, texts: Sequence[Text]) -> bytes:
        """Return the digest of the texts of a picture that are encoded."""
        return texts_digest(self.select(texts))

    def encode(
        self,
        texts_per_image: Sequence[Sequence[Text]],
        images: Vectors,
        image_inputs: Sequence[ModelInput] | None = None,
    ) -> list[TextVectors]:
        """Encode the texts of n pictures.

        Args:
            texts_per_image: All texts of each picture.
            images: Image vectors, (n, dim).
            image_inputs: The pictures as model inputs; None skips cross-attention.
        """
        chosen = [self.select(texts) for texts in texts_per_image]
        text_inputs = [
            self._encoder.prepare(InputKind.TEXT, text.text) for texts in chosen for text in texts
        ]
        vectors = encode_model_inputs(self._encoder, text_inputs)
        encoded = []
        offset = 0
        for row, texts in enumerate(chosen):
            span = slice(offset, offset + len(texts))
            text_vectors = TextVectors(tuple(text.kind for text in texts), vectors[span])
            if texts and image_inputs is not None and self._fusion.cross_attend is not None:
                (patches,) = self._encoder.token_vectors(InputKind.IMAGE, [image_inputs[row]])
                tokens = self._encoder.token_vectors(InputKind.TEXT, text_inputs[span])
                attended = self._fusion.cross_attend(patches, np.concatenate(tokens))
                text_vectors = TextVectors(
                    (*text_vectors.kinds, CROSS_ATTENTION),
                    np.concatenate([text_vectors.vectors, attended]),
                )
            encoded.append(text_vectors)
            offset += len(texts)
        return encoded


COLLECTOR_VERSION = 2
"""Version of text collection; raised when its results change, so that texts are read again."""


@dataclass(frozen=True)
class TextCollector:
    """Collector that finds the texts of files and detects which must be read again.

    Attributes:
        sources: Sources of the texts that are encoded.
        read_file_texts: Reads the texts around a file, given its root folder and the file.
        captions: The caption table of this run, if there is one.
        kept_tables: Functions that read the other tables of captions that are kept with the folder,
            for new files.
        captioned_paths: Paths, relative to their root, of the files for which captions of that
            table are stored already.
    """

    sources: Sequence[TextSource]
    read_file_texts: Callable[[bytes, ScannedFile], CollectedTexts]
    captions: CaptionTable | None = None
    kept_tables: Sequence[Callable[[], CaptionTable]] = ()
    captioned_paths: frozenset[bytes] = frozenset()
    _searched_sources: frozenset[TextSource] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_searched_sources", collected_sources(self.sources))

    @property
    def uses_tables(self) -> bool:
        """True if the captions of tables are stored."""
        return TextSource.TABLE in self._searched_sources

    @property
    def config_key(self) -> bytes:
        """Key that changes when the texts of unchanged files must be read again."""
        return repr((COLLECTOR_VERSION, sorted(self._searched_sources))).encode()

    def collect(self, root: bytes, file: ScannedFile) -> CollectedTexts:
        """Return the texts and the metadata around one file; thread-safe.

        Texts of other sources and of the caption table are left out.
        """
        collected = self.read_file_texts(root, file)
        return replace(
            collected, texts=tuple(t for t in collected.texts if t.source in self._searched_sources)
        )

    def table_texts(self, file: ScannedFile, subfolder: bytes) -> CaptionTableTexts | None:
        """Return the captions of a file in the table; None keeps the stored captions of all tables.

        Args:
            file: The file, with its path relative to its root.
            subfolder: The indexed folder, relative to the same root.
        """
        if not self.uses_tables:
            return CaptionTableTexts(None)
        if self.captions is None:
            return None
        captions = self.captions.captions.get(relative_to_folder(file.path, subfolder), ())
        return CaptionTableTexts(self.captions.path, captions)

    def key(self, file: ScannedFile) -> bytes:
        """Return a 16-byte key that changes whenever the texts around a file may have changed."""
        sidecar_stats = [[s.path.hex(), s.size, s.mtime_ns, s.ctime_ns] for s in file.sidecars]
        fingerprint = [
            COLLECTOR_VERSION,
            sorted(self._searched_sources),
            file.path.hex(),
            sidecar_stats,
        ]
        return hashlib.sha256(json.dumps(fingerprint).encode()).digest()[:16]

    def expected_texts_key(self, file: ScannedFile, subfolder: bytes) -> bytes:
        """Return the `key` that a file must have for its stored texts to be current.

        The result is b"", which matches no key, for files that are in the caption table of this run
        or have stored captions of that table: they are always read again.

        Args:
            file: The file, with its path relative to its root.
            subfolder: The indexed folder, relative to the same root.
        """
        if self.captions is None:
            return self.key(file)
        in_table = relative_to_folder(file.path, subfolder) in self.captions.captions
        return b"" if in_table or file.path in self.captioned_paths else self.key(file)


def relative_to_folder(path: bytes, subfolder: bytes) -> bytes:
    """Return a path relative to a subfolder, given both relative to the same root."""
    return path[len(subfolder) + 1 :] if subfolder else path
