"""Errors of the operating system become storage errors."""

import errno

import pytest

from mmsearch.catalog.connection import is_unreadable_page
from mmsearch.core.errors import DiskFullError, StorageError, to_storage_error


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (errno.ENOSPC, DiskFullError, 507),
        (errno.EDQUOT, DiskFullError, 507),
        (errno.EIO, StorageError, 503),
        (errno.EMFILE, StorageError, 503),
        (errno.ENOLCK, StorageError, 503),
    ],
)
def test_to_storage_error_os_error_maps_to_class_and_http_status(number, kind, status):
    error = to_storage_error(OSError(number, "no", "/a"))
    assert (type(error), error.http_status, error.details["errno"]) == (kind, status, number)
    assert "/a" in error.message
    assert error.hint


def test_to_storage_error_translates_memory_error_but_not_value_error():
    assert to_storage_error(ValueError()) is None
    assert type(to_storage_error(MemoryError())) is StorageError


def test_is_unreadable_page_is_true_only_for_io_error_codes():
    # 8458 is SQLITE_IOERR_CORRUPTFS; 11 is SQLITE_CORRUPT.
    assert is_unreadable_page("Page 39: unable to get the page. error code=8458")
    assert not is_unreadable_page("Page 39: unable to get the page. error code=11")
    assert not is_unreadable_page("row 3 missing from index places")
