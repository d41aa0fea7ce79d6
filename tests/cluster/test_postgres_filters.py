"""Filters of a catalog in PostgreSQL pass the pictures that the oracle passes."""

import dataclasses
import time

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from mmsearch.core.filter_tree import make_filter_tree
from tests.cluster import services
from tests.property_budget import examples
from tests.unit.catalog.filter_oracle import distance_km, matches_filters
from tests.unit.catalog.test_filters import facts, fill, oracle_facts, sparse

pytestmark = services.MARKS

LIBRARIES = 4
PICTURES_PER_LIBRARY = 60


class Libraries(list):
    """Catalogs with the facts of their pictures, which a failing test need not print."""

    def __repr__(self):
        return f"{len(self)} libraries"


def make_pictures():
    """Return the facts of pictures of several libraries, the same in every run."""
    made = []

    @settings(
        max_examples=LIBRARIES * 5,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(facts, min_size=PICTURES_PER_LIBRARY, max_size=PICTURES_PER_LIBRARY))
    def collect(pictures):
        made.append(pictures)

    collect()
    # The first ones are the simplest, with pictures that are all alike.
    return made[-LIBRARIES:]


@pytest.fixture(scope="module")
def libraries(start_service, tmp_path_factory):
    """Catalogs, each with the facts of its pictures."""
    from mmsearch.catalog.postgres import parse_url
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    said = start_service("postgres")
    opened = Libraries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", said["POSTGRES_PASSWORD"])
        patch.setenv("TZ", "America/St_Johns")
        time.tzset()
        for number, pictures in enumerate(make_pictures()):
            path = tmp_path_factory.mktemp("library") / "catalog.sqlite"
            place = parse_url(f"{said['POSTGRES_URL']}?schema=library{number}", path)
            opened.append((open_postgres_writer(place, create=True), pictures))
            fill(*opened[-1])
        yield opened
        for catalog, _ in opened:
            catalog.close()
    time.tzset()


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=sparse, number=st.integers(0, LIBRARIES - 1))
def test_any_filters_pass_the_same_pictures_as_the_oracle(libraries, wanted, number):
    catalog, pictures = libraries[number]
    wanted = dataclasses.replace(wanted, paths=tuple(f"*/{path}" for path in wanted.paths))
    if wanted.near is not None:
        for own in pictures:
            if own["position"][0] is not None:
                # At the edge of the circle, the two formulas may round to different sides.
                assume(abs(distance_km(wanted.near, *own["position"]) - wanted.near.km) > 1e-6)
    with catalog.snapshot() as snapshot:
        found = snapshot.filter_ids(make_filter_tree(wanted))
    assert found.tolist() == [
        n
        for n, own in enumerate(pictures, start=1)
        if matches_filters(oracle_facts(n, own), wanted)
    ]
