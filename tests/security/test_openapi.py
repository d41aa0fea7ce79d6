"""Everything that the OpenAPI document describes, asked in ways that nobody thought of."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mmsearch.server.app import make_app
from mmsearch.server.reach import Reach
from mmsearch.server.rules import Rules
from tests.elsewhere import Names
from tests.over_http import asked

TOKEN = "known-here"  # noqa: S105 - of the test's own server


@pytest.fixture(scope="module")
def api(photo_index, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        rules = Rules(host="0.0.0.0", token=TOKEN, indexing=False, url_queries=True)  # noqa: S104
        with asked(photo_index, rules, reach=Reach(resolve=Names())) as client:
            yield schemathesis.openapi.from_asgi(
                "/openapi.json", client.app, headers={"Authorization": f"Bearer {TOKEN}"}
            )


CHECKS = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]

OPERATIONS = [
    (method, path) for path, item in make_app(None).openapi()["paths"].items() for method in item
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_breaks_it_and_answers_are_as_described(api, method, path):
    @settings(
        max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=api[path][method].as_strategy(), served=st.integers(0, 3))
    def ask(case, served):
        # Names at random are all unknown.
        if served and "name" in case.path_parameters:
            case.path_parameters["name"] = "default"
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

    ask()
