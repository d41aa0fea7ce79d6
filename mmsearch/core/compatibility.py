"""An index is bound to the encoder that made its vectors, from its first run on."""

from __future__ import annotations

from mmsearch.core.catalog import Reader
from mmsearch.core.errors import EncoderMismatchError, StateError
from mmsearch.core.protocols import Encoder
from mmsearch.core.records import Identity


def require_identity(catalog: Reader) -> Identity:
    """What an index is bound to.

    Raises:
        StateError: Nothing yet.
    """
    identity = catalog.identity()
    if identity is None:
        raise empty_index_error()
    return identity


def empty_index_error() -> StateError:
    """Of an index in which there is nothing that could be worked on."""
    return StateError("This index holds no pictures yet.", "Run: mmsearch index FOLDER")


def check_encoder(identity: Identity, encoder: Encoder) -> None:
    """Refuse an encoder whose vectors cannot be compared with those of the index.

    Raises:
        EncoderMismatchError: It is another one.
    """
    # Each snapshot reads its identity anew: a fingerprint takes longer than a look at the facts.
    if identity.encoder == encoder.spec:
        return
    if identity.encoder.fingerprint == encoder.spec.fingerprint:
        return
    encoder_spec, index_spec = encoder.spec, identity.encoder
    if encoder_spec.name != index_spec.name:
        message = f"This index was built with {index_spec.name!r}, not with {encoder_spec.name!r}."
        hint = "Leave out --model, or choose another index with --index NAME."
    else:
        message = f"The weights or the code of {encoder_spec.name!r} are not those this index was built with."
        hint = (
            "Encode the pictures again with 'mmsearch reindex --model NAME', or index the folder "
            "into another index with --index NAME."
        )
    raise EncoderMismatchError(
        message, hint, index=index_spec.fingerprint, encoder=encoder_spec.fingerprint
    )
