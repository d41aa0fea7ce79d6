"""Identity of an index: its encoder and other choices, which all its vectors depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmsearch.core.errors import EncoderMismatchError, Hint, StateError
from mmsearch.core.types import (
    DEFAULT_SOURCES,
    EncoderSpec,
    FusionSpec,
    SearchGoals,
    TextSource,
)

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.protocols import Encoder


@dataclass(frozen=True)
class Identity:
    """The fixed configuration of an index.

    The encoder stays the same until the index is re-encoded.

    Attributes:
        encoder: The encoder of all vectors.
        fusion: The fusion of a picture's vectors into one; may change without re-encoding.
        vector_index: Name of the vector index plugin; ``auto`` chooses one for the collection.
        texts: Sources of the texts that get a vector.
        goals: Targets for searches.
    """

    encoder: EncoderSpec
    fusion: FusionSpec
    vector_index: str
    texts: tuple[TextSource, ...] = DEFAULT_SOURCES
    goals: SearchGoals = field(default_factory=SearchGoals)


def require_identity(catalog: CatalogReader) -> Identity:
    """Return the identity of an index.

    Raises:
        StateError: The index is empty and has no identity yet.
    """
    identity = catalog.identity()
    if identity is None:
        raise empty_index_error()
    return identity


def empty_index_error() -> StateError:
    """Return the error for an empty index."""
    return StateError(
        "This index holds no pictures yet.",
        Hint("Index a folder first: {}", "index.add_folder(FOLDER)", "mmsearch index FOLDER"),
    )


def describe_older_model(encoder: EncoderSpec) -> str:
    """Return the sentence about an index whose model has a newer version, for commands."""
    return Hint(
        f"This index was made with the previous {encoder.name} model. {{}} for better results.",
        f"Call index.reindex(model={encoder.name!r})",
        f"Run 'mmsearch reindex --model {encoder.name}'",
    ).command


def check_encoder(identity: Identity, encoder: Encoder) -> None:
    """Refuse an encoder whose vectors cannot be compared with those of the index.

    Raises:
        EncoderMismatchError: The index was built with another encoder.
    """
    # Every snapshot has a new identity object, and comparing specs is faster than hashing them.
    if identity.encoder == encoder.spec:
        return
    if identity.encoder.fingerprint == encoder.spec.fingerprint:
        return
    encoder_spec, index_spec = encoder.spec, identity.encoder
    if encoder_spec.name != index_spec.name:
        message = f"This index was built with {index_spec.name!r}, not with {encoder_spec.name!r}."
        hint = Hint(
            "{}",
            "Leave out the model, or open another index.",
            "Leave out --model, or choose another index with --index NAME.",
        )
    else:
        message = (
            f"This index was built with other weights or another version of {encoder_spec.name!r}."
        )
        hint = Hint(
            "Encode the pictures again with {}.",
            "index.reindex(model=NAME), or create an index of the folder under another name",
            "'mmsearch reindex --model NAME', or create another index of the folder"
            " with --index NAME",
        )
    raise EncoderMismatchError(
        message, hint, index=index_spec.fingerprint, encoder=encoder_spec.fingerprint
    )
