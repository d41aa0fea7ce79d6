"""Catalogs of each kind, for the contract suites of the three protocols."""

import hashlib
import os

import pytest

from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_pinned_reader, open_reader
from tests.cluster import services


def _on_server(name):
    def call(path, **options):
        from mmsearch.catalog import postgres_maintenance

        return getattr(postgres_maintenance, name)(place_of(path), **options)

    return call


def place_of(path):
    """Return the place of the catalog that would be at a path."""
    from mmsearch.catalog.postgres import parse_url

    return parse_url(
        f"{os.environ['POSTGRES_URL']}?schema=s{hashlib.sha256(os.fsencode(path)).hexdigest()[:20]}",
        path,
    )


SERVER = pytest.param("postgresql", marks=services.MARKS)
WRITERS = {"sqlite": open_writer, "postgresql": _on_server("open_postgres_writer")}
READERS = {
    "sqlite": open_reader,
    "pinned sqlite": open_pinned_reader,
    "postgresql": _on_server("open_postgres_reader"),
    "pinned postgresql": _on_server("open_pinned_postgres"),
}
"""Functions that open a catalog for reading, by path."""


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL server for the schemas of all tests."""
    folder = tmp_path_factory.mktemp("postgres")
    with services.service("postgres", folder) as said, pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTGRES_URL", said["POSTGRES_URL"])
        patch.setenv("PGPASSWORD", said["POSTGRES_PASSWORD"])
        yield said


@pytest.fixture
def catalog_path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture(params=["sqlite", SERVER], scope="session")
def kind(request):
    """The database of a test: ``sqlite`` or ``postgresql``."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres")
    return request.param


@pytest.fixture
def catalog(kind, catalog_path):
    """A new catalog, open for writing and maintenance."""
    catalog = WRITERS[kind](catalog_path, create=True)
    yield catalog
    catalog.close()


@pytest.fixture(scope="session")
def open_new(kind):
    """Function that opens a catalog for writing and maintenance, by path."""
    return WRITERS[kind]


@pytest.fixture
def root(catalog):
    return catalog.ensure_root(b"/photos")[0]


@pytest.fixture(params=["", "pinned "])
def open_for_reading(request, kind, catalog, catalog_path):
    """Function that opens the catalog for reading beside its writer."""
    opened = []

    def open_it():
        opened.append(READERS[f"{request.param}{kind}"](catalog_path))
        return opened[-1]

    yield open_it
    for reader in opened:
        reader.close()
