"""Catalogs of each kind, for the contract suites of the three protocols."""

import pytest

from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_pinned_reader, open_reader

WRITERS = {"sqlite": open_writer}
READERS = {"sqlite": open_reader, "pinned sqlite": open_pinned_reader}
"""Functions that open a catalog for reading, by path."""


@pytest.fixture
def catalog_path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture(params=WRITERS)
def catalog(request, catalog_path):
    """A new catalog, open for writing and maintenance."""
    catalog = WRITERS[request.param](catalog_path, create=True)
    yield catalog
    catalog.close()


@pytest.fixture(params=WRITERS, scope="session")
def open_new(request):
    """Function that opens a catalog for writing and maintenance, by path."""
    return WRITERS[request.param]


@pytest.fixture
def root(catalog):
    return catalog.ensure_root(b"/photos")[0]


@pytest.fixture(params=READERS)
def open_for_reading(request, catalog, catalog_path):
    """Function that opens the catalog for reading beside its writer."""
    opened = []

    def open_it():
        opened.append(READERS[request.param](catalog_path))
        return opened[-1]

    yield open_it
    for reader in opened:
        reader.close()
