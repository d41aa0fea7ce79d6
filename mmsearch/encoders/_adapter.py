"""Adapters: linear maps of the vectors of one model into a space of their own, and their files.

An adapter is a .safetensors file with the float32 matrices ``image`` and ``text``, (dim, base dim),
which map the image and the text vectors of the base model, and may have ``image_bias`` and
``text_bias``, (dim,). Its metadata name the model: ``base`` and ``base_fingerprint``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import safetensors
from numpy.typing import ArrayLike, NDArray

from mmsearch.core.display import display_path
from mmsearch.core.errors import Hint, ModelUnavailableError, SourceError, UsageError, VectorError
from mmsearch.core.files import NotRegularError, open_regular_file, os_error_reason
from mmsearch.core.types import EncoderSpec, InputKind, Vectors
from mmsearch.core.vectors import as_unit_vectors, row_scores
from mmsearch.storage.atomic import atomic_write

MAX_DIM: Final = 4096
"""Maximum number of rows and columns of a matrix; models have at most 2,048."""

MAX_BYTES: Final = 2 * 4 * MAX_DIM * (MAX_DIM + 1) + 1_000_000
"""Maximum size of a file: two matrices, two biases and a header."""

MAX_WEIGHT: Final = 1e6
"""Maximum absolute value in an array, so that no product overflows."""

_MATRICES: Final = tuple(kind.value for kind in InputKind)
_BIASES: Final = tuple(f"{kind.value}_bias" for kind in InputKind)

_WRITE_HINT: Final = "Write adapters with mmsearch.save_adapter."


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map of unit vectors, whose results are scaled to norm 1.

    Attributes:
        matrix: float32 (dim, base dim).
        bias: float32 (dim,), zeros for a map without a bias.
    """

    matrix: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, vectors: Vectors) -> Vectors:
        """Map (n, base dim) unit vectors to (n, dim) unit vectors, each independent of the others.

        Raises:
            VectorError: A result is zero, so that it has no direction.
        """
        # A matrix product depends on the size of the batch, and its threads spin.
        rows = row_scores(self.matrix, vectors[:, None, :]) + self.bias
        if not rows.any(axis=1).all():
            raise VectorError(
                "The adapter maps a vector to zero.", "Use an adapter whose matrices keep more."
            )
        return as_unit_vectors(rows)

    @property
    def is_identity(self) -> bool:
        """True if every vector stays as it is."""
        rows, columns = self.matrix.shape
        has_ones = rows == columns and bool((np.diagonal(self.matrix) == 1).all())
        return has_ones and np.count_nonzero(self.matrix) == rows and not self.bias.any()


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter.

    Attributes:
        base: Name of the base model.
        base_fingerprint: Fingerprint of the base model.
        maps: The map of the vectors of each kind of input.
    """

    base: str
    base_fingerprint: str
    maps: Mapping[InputKind, LinearMap]

    @property
    def dim(self) -> int:
        """Number of dimensions of the new space."""
        return len(self.maps[InputKind.IMAGE].matrix)

    @property
    def base_dim(self) -> int:
        """Number of dimensions of the vectors of the base model."""
        return int(self.maps[InputKind.IMAGE].matrix.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Digest of the base and the maps, whatever the order of the file's metadata is."""
        digest = hashlib.sha256(f"{self.base_fingerprint} {self.dim} {self.base_dim}".encode())
        for kind in InputKind:
            for array in (self.maps[kind].matrix, self.maps[kind].bias):
                digest.update(np.ascontiguousarray(array, "<f4").data)
        return digest.hexdigest()


def read_file(path: Path) -> bytes:
    """Return the content of a file that may be an adapter.

    Raises:
        ModelUnavailableError: It cannot be read, or is too large for an adapter.
    """
    try:
        with open_regular_file(path) as file:
            content = file.read(MAX_BYTES + 1)
    except NotRegularError as error:
        raise ModelUnavailableError(
            f"{display_path(path)} is {error.kind}, not an adapter.", _WRITE_HINT
        ) from None
    except OSError as error:
        raise ModelUnavailableError(
            f"The adapter {display_path(path)} cannot be read: {os_error_reason(error)}.",
            "Check the path and the permissions.",
        ) from error
    if len(content) > MAX_BYTES:
        raise _file_error(path, f"it has more than {MAX_BYTES:,} bytes")
    return content


def parse_adapter(path: Path, content: bytes) -> Adapter:
    """Return the adapter in the content of a file, after its arrays have been checked.

    Args:
        path: Path of the file, for messages.
        content: Its content.

    Raises:
        ModelUnavailableError: It is not an adapter.
    """
    try:
        tensors = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError:
        raise _file_error(path, "it is not a .safetensors file") from None
    # The library has checked the header, but returns no metadata of a file in memory.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__") or {}
    if not metadata.get("base") or not metadata.get("base_fingerprint"):
        raise _file_error(path, "its metadata do not name the base model")
    arrays = {}
    for name, tensor in tensors:
        if tensor["dtype"] != "F32":
            raise _file_error(path, f"{name!r} has the type {tensor['dtype']}, not float32")
        arrays[name] = np.frombuffer(tensor["data"], "<f4").reshape(tensor["shape"])
    problem = _find_problem(arrays)
    if problem is not None:
        raise _file_error(path, problem)
    return Adapter(metadata["base"], metadata["base_fingerprint"], _make_maps(arrays))


def write_adapter(
    path: Path,
    base: EncoderSpec,
    image: ArrayLike,
    text: ArrayLike,
    image_bias: ArrayLike | None = None,
    text_bias: ArrayLike | None = None,
) -> None:
    """Write an adapter into a new file; see `mmsearch.save_adapter`.

    Raises:
        UsageError: An array has another shape or type, or a value that is not allowed.
        SourceError: The file exists, or its folder does not.
        OSError: The file cannot be written.
    """
    given = {"image": image, "text": text, "image_bias": image_bias, "text_bias": text_bias}
    arrays = {name: _to_array(name, value) for name, value in given.items() if value is not None}
    problem = _find_problem(arrays)
    if problem is None and arrays["image"].shape[1] != base.dim:
        problem = (
            f"'image' has {arrays['image'].shape[1]:,} columns, but the vectors of {base.name} have"
            f" {base.dim:,} dimensions"
        )
    if problem is not None:
        raise UsageError(
            f"These arrays make no adapter: {problem}.", "See help(mmsearch.save_adapter)."
        )
    if path.suffix != ".safetensors":
        raise SourceError(
            f"The name of an adapter must end with .safetensors, got {display_path(path.name)}.",
            "Choose another name.",
        )
    if os.path.lexists(path):
        raise SourceError(f"{display_path(path)} exists.", "Delete it, or choose another path.")
    if not path.parent.is_dir():
        raise SourceError(f"There is no folder {display_path(path.parent)}.", "Create it first.")
    from safetensors.numpy import save  # noqa: PLC0415 - queries only read

    metadata = {"base": base.name, "base_fingerprint": base.fingerprint}
    atomic_write(path, save(arrays, metadata))


def missing_error(path: Path) -> ModelUnavailableError:
    """Return the error for an adapter whose file is gone and of which no copy is kept."""
    return ModelUnavailableError(
        f"There is no adapter {display_path(path)}, and the model cache has no copy of it.",
        Hint(
            "Check the path; if the adapter of an index has moved, use {}.",
            "index.reindex(model='adapted:NEW_PATH')",
            "'mmsearch reindex --model adapted:NEW_PATH'",
        ),
    )


def _file_error(path: Path, problem: str) -> ModelUnavailableError:
    return ModelUnavailableError(f"{display_path(path)} is not an adapter: {problem}.", _WRITE_HINT)


def _to_array(name: str, value: ArrayLike) -> NDArray[np.float32]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise UsageError(
            f"{name} must be an array of numbers.",
            "Use a NumPy array, such as tensor.detach().cpu().numpy().",
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype="<f4")


def _find_problem(arrays: Mapping[str, NDArray[np.float32]]) -> str | None:
    """Return what is wrong with the arrays of an adapter, as a clause; None if nothing is wrong."""
    return next(_iter_problems(arrays), None)


def _iter_problems(arrays: Mapping[str, NDArray[np.float32]]) -> Iterator[str]:
    """Yield the problems of arrays; those after the first may follow from it."""
    for name in _MATRICES:
        if name not in arrays:
            yield f"it has no matrix {name!r}"
    shape = arrays["image"].shape
    if len(shape) != 2 or not 0 < min(shape) <= max(shape) <= MAX_DIM:
        yield f"'image' must have 1 to {MAX_DIM:,} rows and columns, got the shape {shape}"
    expected = dict.fromkeys(_MATRICES, shape) | dict.fromkeys(_BIASES, shape[:1])
    for name, array in arrays.items():
        if name not in expected:
            yield f"the array {name!r} is unknown"
        if array.shape != expected[name]:
            yield f"{name!r} must have the shape {expected[name]}, got {array.shape}"
        largest = max(array.max(), -array.min())  # NaN if there is any.
        if not np.isfinite(largest):
            yield f"{name!r} has a value that is not finite"
        if largest > MAX_WEIGHT:
            yield f"{name!r} has a value above {MAX_WEIGHT:,.0f}"
        if name in _MATRICES and largest == 0:
            yield f"{name!r} has only zeros"


def _make_maps(arrays: Mapping[str, NDArray[np.float32]]) -> dict[InputKind, LinearMap]:
    zeros = np.zeros(len(arrays["image"]), np.float32)
    return {
        kind: LinearMap(arrays[kind.value], arrays.get(f"{kind.value}_bias", zeros))
        for kind in InputKind
    }
