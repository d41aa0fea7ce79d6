"""Parsing of the server's JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from mmsearch.core.errors import ServerError
from mmsearch.core.types import Vectors

Answer = TypeVar("Answer")


def parse_answer(parser: Callable[[Any], Answer], payload: Any) -> Answer:
    """Parse the payload of a response.

    Args:
        parser: `parse_vectors`, or ``from_dict`` of a class of `mmsearch.core.results`; it ignores
            unknown members.
        payload: The decoded JSON.

    Raises:
        ServerError: The payload does not have the expected form.
    """
    try:
        return parser(payload)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            "The response does not have the form that an mmsearch server sends.",
            "Check the URL, and compare the server's version with the client's.",
        ) from error


def parse_vectors(payload: Any) -> Vectors:
    """Parse embeddings, float32 (n, dim)."""
    vectors = np.asarray(payload["embeddings"], dtype=np.float32)
    return vectors.reshape(-1, payload["dim"])
