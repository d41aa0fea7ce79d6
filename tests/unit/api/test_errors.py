"""Public methods of an index translate errors of the operating system."""

import errno

import pytest

from mmsearch.api._session import translate_errors
from mmsearch.core.errors import StorageError


def test_translate_errors_covers_public_methods_only():
    @translate_errors
    class Owner:
        def public(self):
            raise MemoryError

        def check(self):
            raise OSError(errno.EIO, "no")

        def _private(self):
            raise OSError(errno.EIO, "no")

    for call in (Owner().public, Owner().check):
        with pytest.raises(StorageError):
            call()
    with pytest.raises(OSError, match="no"):
        Owner()._private()


def test_translate_errors_keeps_unexpected_error_of_maintenance():
    @translate_errors
    class Owner:
        def repair(self):
            raise KeyError("no")

    with pytest.raises(KeyError):
        Owner().repair()
