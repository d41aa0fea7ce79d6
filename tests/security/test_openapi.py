"""All operations of the OpenAPI document, called with generated requests."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mmsearch.server.app import make_app
from mmsearch.server.config import ServerConfig
from mmsearch.sources._web.addresses import AddressPolicy
from tests.fake_web import FakeResolver
from tests.http_client import http_client
from tests.property_budget import examples

TOKEN = "known-here"  # noqa: S105 - of the test's own server


@pytest.fixture(scope="module")
def client(photo_index, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        rules = ServerConfig(
            host="0.0.0.0",  # noqa: S104 - the Host header is then not checked
            token=TOKEN,
            allow_indexing=False,
            allow_url_queries=True,
        )
        with http_client(
            photo_index, rules, address_policy=AddressPolicy(resolve=FakeResolver())
        ) as client:
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            yield client


@pytest.fixture(scope="module")
def api(client):
    return schemathesis.openapi.from_asgi(
        "/openapi.json", client.app, headers={"Authorization": f"Bearer {TOKEN}"}
    )


CHECKS = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]

DOCUMENT = make_app(None).openapi()
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation_random_requests_get_responses_as_documented(api, method, path):
    @settings(
        max_examples=examples(25),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy(), served=st.integers(0, 3))
    def ask(case, served):
        # Random index names are all unknown.
        if served and "name" in case.path_parameters:
            case.path_parameters["name"] = "default"
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

    ask()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation_options_lists_methods_and_wrong_token_gets_401(api, method, path):
    """Check also that only `/healthz` and `/readyz` declare that they require no token."""
    case = api[path][method].Case(path_parameters=parameters_of(path), media_type=None)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    options = case.operation.schema[path][method].Case(
        method="OPTIONS", path_parameters=parameters_of(path)
    )
    answer = options.call(headers=headers)
    assert answer.status_code == 204
    options.validate_response(answer, checks=[allow_header_conformance])
    stranger = case.call(headers={"Authorization": "Bearer wrong"})
    is_open = DOCUMENT["paths"][path][method]["security"] == []
    assert (stranger.status_code == 401) is not is_open
    assert is_open is (path in {"/healthz", "/readyz"})


def parameters_of(path):
    known = {"name": "default", "image_id": 1, "job_id": "x", "key": "x"}
    return {name: value for name, value in known.items() if f"{{{name}}}" in path}


def test_openapi_document_is_valid():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert DOCUMENT["servers"][0]["url"] == "/"


def test_openapi_picture_fields_declare_binary_format_and_media_type():
    for body in ("Body_search_by_picture", "Body_embed_picture"):
        picture = DOCUMENT["components"]["schemas"][body]["properties"]["picture"]
        (file, *_) = picture.get("anyOf", [picture])
        assert (file["format"], file["contentMediaType"]) == ("binary", "application/octet-stream")


def examples_of(schema):
    """Yield the examples of a schema, and one object for each example of a member."""
    yield from schema.get("examples", [])
    for name, member in schema.get("properties", {}).items():
        for example in member.get("examples", []):
            yield {name: example}


SCHEMAS = DOCUMENT["components"]["schemas"]
OF_INDEX = "/v1/indexes/default"
EXAMPLES = [
    *((f"{OF_INDEX}/search", body) for body in examples_of(SCHEMAS["SearchBody"])),
    *((f"{OF_INDEX}/facets", body) for body in examples_of(SCHEMAS["FacetsBody"])),
    *(
        (f"{OF_INDEX}/search", {"query": "a windmill", "filters": filters})
        for filters in examples_of(SCHEMAS["FilterBody"])
    ),
    *((f"{OF_INDEX}/embeddings/texts", body) for body in examples_of(SCHEMAS["TextsBody"])),
    *(
        (path, {"query": "a windmill"} | body)
        for path, schema in (
            ("/v1/search", "FederatedSearchBody"),
            ("/v1/facets", "FederatedFacetsBody"),
        )
        for body in examples_of(SCHEMAS[schema])
    ),
]
IN_URLS = [
    (path.replace("{name}", "default"), parameter["name"], example)
    for path, item in DOCUMENT["paths"].items()
    for parameter in item.get("get", {}).get("parameters", [])
    for example in parameter.get("schema", {}).get("examples", [])
]
IN_FORMS = [
    *((f"{OF_INDEX}/search", form) for form in examples_of(SCHEMAS["Body_search_by_picture"])),
    *(("/v1/search", form) for form in examples_of(SCHEMAS["Body_search_indexes_by_picture"])),
]


def test_openapi_examples_are_all_collected():
    shown = json.dumps(DOCUMENT).count('"examples"')
    in_urls = len(IN_URLS)
    # Four schemas of bodies for searches and counts have examples; those of their filters, of
    # texts to encode, of pictures in several indexes and of four forms are at members. Those of
    # texts and metadata of pictures are in each of the six schemas of a record or a patch.
    assert shown == in_urls + 4 + 7 + 1 + 4 + 10 + 12
    assert (len(EXAMPLES), in_urls, len(IN_FORMS)) == (20, 35, 4)


@pytest.mark.parametrize(("path", "body"), EXAMPLES)
def test_openapi_body_examples_get_200(client, path, body):
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("path", "name", "example"), IN_URLS)
def test_openapi_parameter_examples_get_200(client, path, name, example):
    answer = client.get(path, params={"q": "a windmill", name: example})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("path", "form"), IN_FORMS)
def test_openapi_form_examples_get_200(client, photos, path, form):
    picture = min((photos / "photos").glob("*.jpg")).read_bytes()
    answer = client.post(f"{path}/picture", files={"picture": ("a.jpg", picture)}, data=form)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["search/picture", "embeddings/picture"])
def test_upload_without_file_name_gives_same_answer(client, photos, path):
    picture = max((photos / "photos").glob("*.jpg"), key=lambda file: file.stat().st_size)
    at, answers = f"/v1/indexes/default/{path}", []
    for disposition in (b'; filename="a.jpg"', b"", b'; filename=""', b"; filename*=UTF-8''a.jpg"):
        part = b'--b\r\nContent-Disposition: form-data; name="picture"%b\r\n\r\n%b\r\n--b--\r\n'
        answer = client.post(
            at,
            content=part % (disposition, picture.read_bytes()),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert answer.status_code == 200, (disposition, answer.text)
        document = answer.json()
        answers.append(document.get("embeddings") or [hit["id"] for hit in document["hits"]])
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (
            b"--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--",
            "multipart/form-data; boundary=b",
        ),
        (b"--b--", "multipart/form-data"),
        (b"nothing", "multipart/form-data; boundary=b"),
    ],
)
def test_malformed_form_gets_400(client, body, media_type):
    answer = client.post(
        "/v1/indexes/default/search/picture", content=body, headers={"Content-Type": media_type}
    )
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert answer.json()["detail"].startswith("The form cannot be read: ")
