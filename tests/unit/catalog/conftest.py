import pytest

from mmsearch.catalog.open import open_catalog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    catalog = open_catalog(path, create=True)
    yield catalog
    catalog.close()


@pytest.fixture
def root(catalog):
    root, _ = catalog.ensure_root(b"/photos")
    return root
