import pytest

from mmsearch.catalog.open import open_writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    catalog = open_writer(path, create=True)
    yield catalog
    catalog.close()


@pytest.fixture
def root(catalog):
    root, _ = catalog.ensure_root(b"/photos")
    return root
