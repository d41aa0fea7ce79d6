"""Checks of the arguments that Python programs pass, by the annotations of a function or class.

The annotation says what an argument takes; `check_arguments` and `check_fields` compare the values
with it and convert those that mean the same: one text where several may be given, a hit where an
id is meant, a mapping where filters are meant, integers and floats of numpy.
"""

from __future__ import annotations

import inspect
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache, wraps
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from mmsearch.core.errors import MMSearchError, UsageError
from mmsearch.core.validation import quote_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from mmsearch.core.filters import Filters
    from mmsearch.core.results import Item

Function = TypeVar("Function", bound=Callable[..., Any])

StrPath: TypeAlias = "str | bytes | os.PathLike[str]"
"""Path of a file or folder, not empty."""

Texts: TypeAlias = "str | Iterable[str] | None"
"""One text, or several. None means none."""

Paths: TypeAlias = "StrPath | Iterable[StrPath] | None"
"""One path, or several. None means none."""

PictureId: TypeAlias = "int | Item"
"""Id of a picture of an index (`Hit.id`), or the hit itself."""

PictureIds: TypeAlias = "PictureId | Iterable[PictureId] | None"
"""One picture of an index, or several. None means none."""

PictureInput: TypeAlias = "str | os.PathLike[str] | bytes | Image | NDArray[np.uint8] | PictureId"
"""A file, its content, a Pillow image, an array of pixels, or a picture of the index."""

SoundInput: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[np.floating[Any]]"
"""A sound file, its content, or an array of samples."""

FilterValues: TypeAlias = "Filters | Mapping[str, Any]"
"""Filters, or a mapping such as ``{"after": "2019", "min_width": 1000, "camera": "nikon"}``."""

KindWeights: TypeAlias = "Mapping[str, float]"
"""Weights by kind of text."""

DescribeValues: TypeAlias = "Texts | Mapping[str, Mapping[str, Any] | None]"
"""Names of enrichers, or a mapping of them to their options such as ``{"tags": {"vocabulary":
"tags.txt"}}``."""

MINIMUMS = {"wait_s": 0, "settle_s": 0, "timeout_s": 0, "edge_px": 1, "depth": 1, "workers": 0}
"""Lowest value of arguments by their names."""


class Kind(NamedTuple):
    """Kind of value that an argument takes.

    Attributes:
        expected: Description that follows "must be".
        convert: Returns the value as the function uses it; raises TypeError or ValueError if it is
            of another kind.
    """

    expected: str
    convert: Callable[[Any], Any]


def check_arguments(public_name: str = "") -> Callable[[Function], Function]:
    """Return a decorator that checks and converts the arguments of each call.

    Arguments without an annotation, and those whose annotation is not in the table, are not
    checked. A call that does not fit the signature raises Python's own TypeError, or the error
    about one of its values.

    Args:
        public_name: Name that a user knows the function by, if it is another one.
    """

    def decorate(function: Function) -> Function:
        hint = f"See help(mmsearch.{public_name or function.__name__})."
        signature = inspect.signature(function)
        annotations = {
            argument: parameter.annotation
            for argument, parameter in signature.parameters.items()
            if isinstance(parameter.annotation, str)
            and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }

        positional = [
            annotations.get(argument) and argument
            for argument, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]

        def check(argument: str | None, value: Any) -> Any:
            annotation = annotations.get(argument or "")
            if argument is None or annotation is None:
                return value
            return check_value(argument, value, annotation, hint)

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # Signature.bind takes longer than all checks.
            checked = [check(*pair) for pair in zip(positional, args, strict=False)]
            named = {argument: check(argument, value) for argument, value in kwargs.items()}
            return function(*checked, *args[len(checked) :], **named)

        return wrapper  # type: ignore[return-value]

    return decorate


def check_fields(record: Any, error_class: type[UsageError] = UsageError) -> None:
    """Check and convert the fields of a new frozen dataclass.

    Raises:
        UsageError: A field has a value of another kind; of the given class.
    """
    hint = f"See help(mmsearch.{type(record).__name__})."
    for name, annotation, default in _field_annotations(type(record)):  # type: ignore[arg-type]
        value = getattr(record, name)
        if value is not default:
            checked = check_value(name, value, annotation, hint, error_class)
            object.__setattr__(record, name, checked)


def check_value(
    name: str,
    value: Any,
    annotation: str,
    hint: str = "",
    error_class: type[UsageError] = UsageError,
) -> Any:
    """Return a value as the annotation of its argument describes it.

    Raises:
        UsageError: The value is of another kind; of the given class.
    """
    kinds, optional = _parse_annotation(annotation)
    if not kinds or (optional and value is None):
        return value
    for kind in kinds:
        try:
            converted = kind.convert(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if name in MINIMUMS and converted is not None and converted < MINIMUMS[name]:
            raise error_class(f"{name} must be at least {MINIMUMS[name]}, got {value!r}.", hint)
        return converted
    expected = " or ".join(kind.expected for kind in kinds)
    raise error_class(f"{name} must be {expected}, got {describe_value(value)}.", hint)


def describe_value(value: object) -> str:
    """Return a value as messages quote it; only the type of one that Python does not define."""
    if value is None or type(value).__module__ in ("builtins", "pathlib"):
        return quote_value(value)
    return f"a value of type {type(value).__name__}"


def suggest_name(name: object, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: the most similar ones, or else all."""
    from difflib import get_close_matches  # noqa: PLC0415 - only errors need it

    names = list(known)
    matches = get_close_matches(str(name), names, n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(matches)}?" if matches else f"Known: {', '.join(names)}."


def check_no_options(**options: object) -> None:
    """Reject options of a search whose query is parsed already and has its own.

    Raises:
        UsageError: An option is given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"A Query is combined with {' and '.join(given)}.",
            f"Pass {' and '.join(given)} to parse_query.",
        )


# --- conversions: each raises TypeError or ValueError for a value of another kind ---


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _to_bool(value: Any) -> bool:
    # numpy, which is not imported here, has a bool of its own.
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(value)
    return bool(value)


def to_int(value: Any) -> int:
    """Return a whole number as an int, also one of numpy."""
    if isinstance(value, bool):
        raise TypeError(value)
    return operator.index(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(value)
    if not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def _check_path(value: Any) -> Any:
    text = os.fsdecode(value)
    if not text or "\0" in text:
        raise ValueError(value)
    return value


def _to_path(value: Any) -> Path:
    path = _check_path(value)
    return path if isinstance(path, Path) else Path(os.fsdecode(path))


def to_picture_id(value: Any) -> int:
    """Return the id of a picture, which may be given by a hit."""
    results = sys.modules.get("mmsearch.core.results")
    is_item = results is not None and isinstance(value, results.Item)
    return to_int(value.id if is_item else value)


def to_filters(value: Any) -> Filters:
    """Return filters, which may be given by a mapping; see `make_filters`."""
    from mmsearch.core.filters import Filters, make_filters  # noqa: PLC0415 - it imports this module

    if isinstance(value, Filters):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return make_filters(value)


def _to_mode(value: Any) -> Any:
    return sys.modules["mmsearch.core.query"].Mode(value)


def _to_weights(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {_to_text(name): _to_float(weight) for name, weight in value.items()}


def _to_describe_choice(value: Any) -> dict[str, dict[str, str]]:
    from mmsearch.core.describe_choices import to_describe_choice  # noqa: PLC0415 - few need it

    return to_describe_choice(value)


def _check_callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError(value)
    return value


def _instance_of(module: str, name: str) -> Callable[[Any], Any]:
    """Return a check for instances of a class, which is not imported for it."""

    def check(value: Any) -> Any:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is None or not isinstance(value, kind):
            raise TypeError(value)
        return value

    return check


def _check_query(value: Any) -> Any:
    query = sys.modules.get(_QUERY)
    if query is not None and isinstance(value, query.Query | query.SearchRequest):
        return value
    return _to_text(value)


def _check_encoded(value: Any) -> Any:
    if isinstance(value, MMSearchError):
        return value
    return _instance_of("mmsearch.core.query", "EncodedQuery")(value)


def one_or_many(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a conversion of one value, several, or None for none, to a tuple."""

    def convert_all(value: Any) -> tuple[Any, ...]:
        if value is None:
            return ()
        try:
            return (convert(value),)
        except (TypeError, ValueError):
            if isinstance(value, str | bytes | Mapping):
                raise
            return tuple(map(convert, value))

    return convert_all


def to_text_or_path(value: Any) -> str:
    """Return a text, or a path as a text."""
    return _to_text(os.fspath(value))


to_texts: Callable[[Any], tuple[str, ...]] = one_or_many(to_text_or_path)
"""Returns one text, several, or None as a tuple; a path is a text."""

to_paths: Callable[[Any], tuple[Any, ...]] = one_or_many(_check_path)
"""Returns one path, several, or None as a tuple."""

to_picture_ids: Callable[[Any], tuple[int, ...]] = one_or_many(to_picture_id)
"""Returns the ids of one picture, several, or None as a tuple."""

_QUERY = "mmsearch.core.query"
_EVALUATE = "mmsearch.api.evaluate"
_TERMS = Kind("a list of Term", one_or_many(_instance_of(_QUERY, "Term")))

KINDS = {
    "str": Kind("a string", _to_text),
    "bool": Kind("True or False", _to_bool),
    "int": Kind("a whole number", to_int),
    "float": Kind("a number", _to_float),
    "StrPath": Kind("a path", _check_path),
    "Path": Kind("a path", _to_path),
    "Texts": Kind("a string or a list of strings", to_texts),
    "Paths": Kind("a path or a list of paths", to_paths),
    "PictureId": Kind("the id of a picture or a hit", to_picture_id),
    "PictureIds": Kind("ids of pictures or hits", to_picture_ids),
    "FilterValues": Kind("Filters or a dict of filters", to_filters),
    "Mode": Kind("vector, text or hybrid", _to_mode),
    "KindWeights": Kind("a dict of numbers by kind of text", _to_weights),
    "DescribeValues": Kind(
        "names of enrichers, or a dict of their options by name", _to_describe_choice
    ),
    "Query": Kind("a Query", _instance_of(_QUERY, "Query")),
    "Transcript": Kind("a Transcript", _instance_of("mmsearch.core.speech", "Transcript")),
    "Filters": Kind("Filters or a dict of filters", to_filters),
    "Terms": _TERMS,
    "tuple[Term, ...]": _TERMS,
    "tuple[str, ...]": Kind("a string or a list of strings", to_texts),
    "SearchRequest": Kind("a SearchRequest", _instance_of(_QUERY, "SearchRequest")),
    "Sequence[SearchRequest]": Kind(
        "a list of SearchRequest", one_or_many(_instance_of(_QUERY, "SearchRequest"))
    ),
    "Sequence[str | Query | SearchRequest]": Kind(
        "a list of texts, of Query or of SearchRequest", one_or_many(_check_query)
    ),
    "Sequence[EncodedQuery | MMSearchError]": Kind(
        "a list from Index.encode", one_or_many(_check_encoded)
    ),
    "Settings": Kind("Settings", _instance_of("mmsearch.core.settings", "Settings")),
    "Index": Kind("an Index", _instance_of("mmsearch.api.index", "Index")),
    "JobStatus": Kind("a JobStatus", _instance_of("mmsearch.core.server_results", "JobStatus")),
    "threading.Event": Kind("a threading.Event", _instance_of("threading", "Event")),
    "frozenset[bytes]": Kind(
        "a set of paths as bytes",
        lambda paths: frozenset(one_or_many(_instance_of("builtins", "bytes"))(paths)),
    ),
    "Callable": Kind("a function", _check_callable),
    "Mapping[str, str]": Kind("a mapping", _instance_of("collections.abc", "Mapping")),
    "CaptionedSet": Kind("a CaptionedSet", _instance_of(_EVALUATE, "CaptionedSet")),
    "SearchSettings": Kind("SearchSettings", _instance_of(_EVALUATE, "SearchSettings")),
    "Ties": Kind("one of Ties", _instance_of("mmsearch.evaluation.metrics", "Ties")),
}
"""Kinds of arguments by their annotations."""


@cache
def _parse_annotation(annotation: str) -> tuple[tuple[Kind, ...], bool]:
    """Return the kinds of an annotation, and True if None is allowed.

    There are no kinds if a part of the annotation is not in the table.
    """
    names = [
        "Callable" if name.startswith("Callable[") else name
        for name in re.split(r" \| (?![^\[]*\])", annotation)
    ]
    kinds = [KINDS.get(name) for name in names if name != "None"]
    return tuple(kind for kind in kinds if kind) if all(kinds) else (), "None" in names


@cache
def _field_annotations(record_class: Any) -> tuple[tuple[str, str, Any], ...]:
    """Return the name, the annotation and the default of each field of a dataclass."""
    return tuple((field.name, str(field.type), field.default) for field in fields(record_class))
