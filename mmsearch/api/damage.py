"""Decorator that reports errors caused by a damaged catalog as damage."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from mmsearch.core.errors import DamagedFileError, MMSearchError
from mmsearch.core.results import Severity
from mmsearch.storage.atomic import REPAIR_HINT
from mmsearch.storage.layout import IndexLayout

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class HasLayout(Protocol):
    """An object with the layout of an index."""

    _layout: IndexLayout


Owner = TypeVar("Owner", bound=HasLayout)


def report_damage(
    method: Callable[Concatenate[Owner, Parameters], Result],
) -> Callable[Concatenate[Owner, Parameters], Result]:
    """Raise a `DamagedFileError` in place of an unexpected error that catalog damage causes.

    An invalid value in the catalog can break any code that reads it. The catalog is therefore
    checked after each unexpected error. If the catalog is intact, the original error is raised.
    """

    @wraps(method)
    def wrapper(self: Owner, *arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        try:
            return method(self, *arguments, **keywords)
        except (MMSearchError, OSError, MemoryError):
            raise
        except Exception as error:
            from mmsearch.maintenance.check import check_catalog  # noqa: PLC0415 - after errors only

            for finding in check_catalog(self._layout, compare_checksum=False):
                if finding.weight is Severity.DAMAGE:
                    raise DamagedFileError(finding.message, REPAIR_HINT) from error
            raise

    return cast("Callable[Concatenate[Owner, Parameters], Result]", wrapper)
