"""Errors that a damaged catalog causes, told as what they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from mmsearch.core.errors import DamagedFileError, MMSearchError
from mmsearch.core.reports import Severity
from mmsearch.storage.atomic import REPAIR_HINT
from mmsearch.storage.layout import IndexLayout

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class HasLayout(Protocol):
    """An object that works on an index."""

    _layout: IndexLayout


Owner = TypeVar("Owner", bound=HasLayout)


def report_damage(
    method: Callable[Concatenate[Owner, Parameters], Result],
) -> Callable[Concatenate[Owner, Parameters], Result]:
    """Raise a `DamagedFileError` in the place of what a value that no writer leaves has caused.

    Such a value may break anything that reads it, so that the catalog is checked after an error
    that is not ours. If the catalog is sound, the error stays what it is.
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
