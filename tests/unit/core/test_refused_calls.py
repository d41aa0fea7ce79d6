"""What the operating system refuses, as errors of ours."""

import errno

import pytest

from mmsearch.catalog.connection import is_unreadable_page
from mmsearch.core.errors import DiskFullError, StorageError
from mmsearch.core.io_errors import to_storage_error, translate_method_os_errors


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
def test_kinds(number, kind, status):
    error = to_storage_error(OSError(number, "no", "/a"))
    assert (type(error), error.http_status, error.details["errno"]) == (kind, status, number)
    assert "/a" in error.message
    assert error.hint


def test_other_errors_are_left_alone():
    assert to_storage_error(ValueError()) is None
    assert type(to_storage_error(MemoryError())) is StorageError


def test_methods_of_a_class_and_of_its_bases():
    class Base:
        def inherited(self):
            raise OSError(errno.EIO, "no")

    @translate_method_os_errors
    class Derived(Base):
        def own(self):
            raise MemoryError

        def _private(self):
            raise OSError(errno.EIO, "no")

    for call in (Derived().inherited, Derived().own):
        with pytest.raises(StorageError):
            call()
    with pytest.raises(OSError, match="no"):
        Derived()._private()
    with pytest.raises(OSError, match="no"):
        Base().inherited()


def test_pages_that_could_not_be_read_are_no_damage():
    # 8458 is SQLITE_IOERR_CORRUPTFS; 11 is SQLITE_CORRUPT.
    assert is_unreadable_page("Page 39: unable to get the page. error code=8458")
    assert not is_unreadable_page("Page 39: unable to get the page. error code=11")
    assert not is_unreadable_page("row 3 missing from index places")
