"""Checks that an index and an encoder match.

The first indexing run binds an index to the encoder that made its vectors.
"""

from __future__ import annotations

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.errors import EncoderMismatchError, StateError
from mmsearch.core.protocols import Encoder
from mmsearch.core.records import Identity


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
    return StateError("This index holds no pictures yet.", "Run: mmsearch index FOLDER")


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
        hint = "Leave out --model, or choose another index with --index NAME."
    else:
        message = (
            f"This index was built with other weights or another version of {encoder_spec.name!r}."
        )
        hint = (
            "Encode the pictures again with 'mmsearch reindex --model NAME', or create another "
            "index of the folder with --index NAME."
        )
    raise EncoderMismatchError(
        message, hint, index=index_spec.fingerprint, encoder=encoder_spec.fingerprint
    )
