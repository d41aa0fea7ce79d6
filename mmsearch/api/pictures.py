"""Texts and pictures that a program passes, as the terms of a query."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmsearch.core.arguments import describe_value, to_picture_id
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.files import expand_user
from mmsearch.core.query import Term
from mmsearch.modalities._memory import encode_image


@contextmanager
def open_terms(inputs: Any, *, texts: bool) -> Iterator[tuple[Term, ...]]:
    """Open the terms of one input or several; pictures in memory are files until the context ends.

    Args:
        inputs: See `mmsearch.Index.embed` and `mmsearch.Index.similar`.
        texts: True if a string is a text, False if it is the path of a picture.

    Raises:
        InvalidQueryError: There is no input, or a text is empty.
        UsageError: An input is of another type or shape.
        SourceError: A picture in memory cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
        terms = tuple(
            _to_term(value, Path(folder) / str(number), texts=texts)
            for number, value in enumerate(_as_list(inputs))
        )
        if not terms:
            raise InvalidQueryError("There is nothing to encode.", "Pass at least one text.")
        try:
            yield terms
        except SourceError as error:
            # The names of these files mean nothing to the caller.
            for term in terms:
                if term.image is not None and term.image.parent == Path(folder):
                    file_name, name = display_path(term.image), "The given picture"
                    error = SourceError(error.message.replace(file_name, name), error.hint)
            raise error from None


def _as_list(inputs: Any) -> Iterable[Any]:
    is_one = isinstance(inputs, str | bytes | bytearray | os.PathLike | Term | Mapping)
    if is_one or hasattr(inputs, "shape") or not isinstance(inputs, Iterable):
        return [inputs]
    return inputs


def _to_term(value: Any, file: Path, *, texts: bool) -> Term:
    if isinstance(value, str) and texts:
        value = Term(value)
    if isinstance(value, Term):
        if value.text is not None and not value.text.strip():
            raise InvalidQueryError("A text to encode is empty.", "Describe a picture in words.")
        return value
    if isinstance(value, str | os.PathLike):
        return Term(image=expand_user(value))
    content = value if isinstance(value, bytes | bytearray) else encode_image(value)
    if content is not None:
        file.write_bytes(content)
        return Term(image=file)
    try:
        return Term(picture=to_picture_id(value))
    except (TypeError, ValueError, OverflowError):
        kinds = "a text, a picture or a Term" if texts else "a picture"
        raise UsageError(
            f"The input must be {kinds}, got {describe_value(value)}.",
            "A picture is a path, the bytes of a file, a Pillow image, a uint8 array of shape "
            "(h, w, 3), a hit, or the id of one.",
        ) from None
