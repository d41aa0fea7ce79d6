"""Every public call checks what it is given, and says which argument is wrong."""

import asyncio
import inspect
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import mmsearch as library
from mmsearch.api import evaluate
from mmsearch.core.arguments import _parse_annotation, check_value
from mmsearch.core.errors import InvalidQueryError, MMSearchError, SourceError, UsageError
from mmsearch.core.query import Mode
from mmsearch.core.reports import NOTHING_DONE
from mmsearch.core.results import IndexRequest
from mmsearch.factories import search
from mmsearch.maintenance import folders
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyEncoder, make_toys, replaced, toy_indexer
from tests.unit.client.fake_server import URL, FakeServer

WRONG = [
    None,
    5,
    -(2**70),
    float("nan"),
    "text",
    "",
    b"bytes",
    [1, None],
    {"a": 1},
    Path("path"),
    Image.new("RGB", (2, 2)),
    np.zeros((2, 2)),
    object(),
]

UNCHECKED = {
    "ids",
    "image",
    "images",
    "inputs",
    "metadata",
    "progress",
    "sound",
    "transport",
    "values",
}
"""Arguments that functions check by themselves."""

FUNCTIONS = [
    library.open_index,
    library.restore_index,
    library.init_index,
    library.migrate_index,
    library.trust_index,
    library.list_indexes,
    library.list_models,
    library.open_model,
    library.use_model,
    library.parse_query,
    library.load_settings,
    evaluate.evaluate_index,
]


def public_methods(kind):
    return [
        getattr(kind, name)
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    (folder / "photos").mkdir()
    for name in "abc":
        (folder / "photos" / f"{name}.toy").write_text(name)
    with toy_indexer(IndexLayout(folder / "indexes" / "default")) as indexer:
        indexer.run(IndexRequest(os.fsencode(folder / "photos")))
    return folder


@pytest.fixture(scope="module")
def index(home):
    toys = make_toys()
    encoder = toys[next(key for key in toys if key[1] == "make_encoder")]
    toys[search, "load_index_encoder"] = lambda identity, settings, on_message: encoder(
        "toy", settings, on_message
    )
    with replaced(toys), library.open_index(home=home / "indexes") as opened:
        yield opened


def required_arguments(home, index):
    return {
        "query": "a",
        "image": 1,
        "sound": b"",
        "image_id": 1,
        "hit": 1,
        "picture": 1,
        "inputs": "a",
        "request": library.SearchRequest(library.Query((library.Term("a"),))),
        "requests": [],
        "encoded": [],
        "folder": home / "photos",
        "destination": home / "copy",
        "backup": home / "copy",
        "name": "other",
        "texts": "a",
        "job": "1",
        "index": index,
        "captions": evaluate.CaptionedSet(home / "none.csv"),
    }


def calls(functions):
    return [
        pytest.param(function, name, id=f"{function.__qualname__}-{name}")
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", *UNCHECKED)
        and parameter.kind is not parameter.VAR_KEYWORD
        # Those of `Index.add` and `Index.update` are of any kind that tests of records name.
        and not (name == "texts" and function.__name__ in ("add", "update"))
    ]


def is_right(value, annotation):
    try:
        check_value("it", value, annotation)
    except MMSearchError:
        return False
    return True


def refusals(function, name, receiver, home, index):
    """Call a function with each value that does not fit an argument; return the errors."""
    signature = inspect.signature(function)
    annotation = signature.parameters[name].annotation
    assert _parse_annotation(annotation)[0], f"{annotation} of {name} is not checked"
    given = {
        needed: value
        for needed, value in required_arguments(home, index).items()
        if needed in signature.parameters
        and signature.parameters[needed].default is inspect.Parameter.empty
    }
    for value in WRONG:
        if is_right(value, annotation):
            continue
        try:
            result = function(*receiver, **given | {name: value})
            if inspect.isawaitable(result):
                result = asyncio.run(result)
            if inspect.isgenerator(result):
                list(result)
        except MMSearchError as error:
            yield value, error
        else:
            raise AssertionError(f"{name}={value!r} was accepted")


@pytest.mark.parametrize(("function", "name"), calls(public_methods(library.Index)))
def test_index_refuses_values_of_wrong_type_by_the_name_of_the_argument(
    index, home, function, name
):
    for _value, error in refusals(function, name, [index], home, index):
        assert isinstance(error, UsageError)
        assert name in error.message or isinstance(error, InvalidQueryError)
        assert "--" not in str(error)


@pytest.mark.parametrize(("function", "name"), calls(FUNCTIONS))
def test_functions_refuse_values_of_wrong_type_by_the_name_of_the_argument(
    index, home, function, name
):
    for _value, error in refusals(function, name, [], home, index):
        assert isinstance(error, UsageError)
        assert name in error.message or isinstance(error, InvalidQueryError)


@pytest.mark.parametrize("client_class", [library.Client, library.AsyncClient])
@pytest.mark.parametrize(
    ("method", "name"),
    [
        *(("search", name) for name in inspect.signature(library.Client.search).parameters),
        *(("similar", name) for name in inspect.signature(library.Client.similar).parameters),
        *(("embed_texts", "texts"), ("embed_picture", "image"), ("picture", "image_id")),
        *(("thumbnail", "picture"), ("thumbnail", "size"), ("original", "picture")),
        *(("start_job", "source"), ("start_job", "retry_failed"), ("job", "job")),
        ("stop_job", "job"),
    ],
)
def test_clients_refuse_values_of_wrong_type(index, home, client_class, method, name):
    if name in ("self", "image"):
        return
    client = client_class(URL, transport=FakeServer().transport)
    function = getattr(client_class, method)
    for _value, error in refusals(function, name, [client], home, index):
        assert isinstance(error, UsageError)
        assert "--" not in str(error)


@pytest.mark.parametrize("client_class", [library.Client, library.AsyncClient])
@pytest.mark.parametrize("value", [None, 5, b"x", ["x"], ...], ids=repr)
def test_clients_refuse_wrong_addresses(client_class, value):
    for name in ("url", "index", "timeout_s"):
        given = {"url": URL} | {name: value if name != "timeout_s" else "x"}
        with pytest.raises(UsageError, match=name):
            client_class(**given)
    with pytest.raises(UsageError, match="token"):
        client_class(URL, token=5)
    with pytest.raises(UsageError, match="transport"):
        client_class(URL, transport=5)


@pytest.mark.parametrize(
    "value", [None, float("nan"), "", [], {}, ..., np.zeros((4, 4, 3)), 2**70, True], ids=repr
)
def test_similar_and_embed_refuse_what_is_no_picture(index, value):
    with pytest.raises(UsageError):
        index.similar(value)
    with pytest.raises(UsageError):
        index.embed(value)
    with pytest.raises(UsageError):
        index.embed(["a", value])


def test_embed_refuses_empty_texts_and_nothing(index):
    for inputs in ([], (), "", [" "], library.Term(" ")):
        with pytest.raises(InvalidQueryError, match=r"nothing to encode|is empty"):
            index.embed(inputs)


def test_term_has_exactly_one_source():
    for given in ({}, {"text": "a", "url": "http://a"}, {"text": "a", "picture": 1}):
        with pytest.raises(InvalidQueryError, match="exactly one of text, image, picture and url"):
            library.Term(**given)


def test_settings_refuse_unknown_devices(home):
    with pytest.raises(UsageError, match="Unknown device 'tpu'"):
        library.open_index(home=home, device="tpu")


def test_similar_takes_what_names_a_picture(index, home):
    hit = index.similar(1)[0]
    for image in (hit, np.int64(hit.id), np.uint8(hit.id), str(hit.path), hit.path):
        assert index.similar(image)[0].id == hit.id
    assert index.similar(hit.path.read_bytes())[0].id == hit.id


def test_similar_names_no_temporary_file_when_content_is_unreadable(index):
    with pytest.raises(SourceError, match=r"^The given picture cannot be used.*it is bad"):
        index.similar(b"bad")


def test_embed_takes_texts_and_pictures(index, home):
    one, list_of_one = index.embed("a dog"), index.embed(["a dog"])
    assert one.shape == (1, 48)
    np.testing.assert_array_equal(one, list_of_one)
    np.testing.assert_array_equal(one, index.embed(library.Term("a dog")))
    hit = index.similar(1)[0]
    mixed = index.embed(["a dog", hit, hit.path, hit.path.read_bytes(), hit.id])
    np.testing.assert_array_equal(mixed[0], one[0])
    np.testing.assert_allclose(mixed[1:], np.tile(mixed[1], (4, 1)), atol=1e-3)


def test_ids_may_be_hits_and_numbers_of_numpy(index):
    hit = index.search("a")[0]
    for given in (hit, hit.id, np.int32(hit.id)):
        assert index.picture(given).id == hit.id
        assert index.original(given) == hit.path
        assert index.search("", like=given)[0].id == hit.id
        assert library.parse_query(like=[given]).terms == (library.Term(picture=hit.id),)
    assert index.picture(10**6) is None
    assert library.Term(picture=hit) == library.Term(picture=hit.id)


@pytest.mark.parametrize(
    "text",
    ["street -people", "/etc/passwd", "image:/etc/passwd", '"quoted', "2:dog", "-dog", "a + b",
     "~/x.jpg", "image:http://a/b", "\\", "  padded \n"],
)  # fmt: skip
def test_search_takes_a_text_literally(index, text):
    literal = library.Query((library.Term(text.strip()),))
    assert [hit.score for hit in index.search(text)] == [hit.score for hit in index.search(literal)]
    assert library.parse_query(text, syntax=False).terms == literal.terms


def test_search_reads_the_query_language_when_asked(index):
    line = "2:a - b"
    parsed = index.search(query=library.parse_query(line))
    assert index.search(line, syntax=True) == parsed
    assert index.search("a", without="b") == index.search("a -b", syntax=True)
    with pytest.raises(SourceError):
        index.search("/none.toy", syntax=True)
    assert len(index.search("/none.toy")) == 3


def test_search_refuses_options_that_a_parsed_query_has_itself(index):
    query = library.parse_query("a")
    for options in ({"mode": "vector"}, {"filters": {"tag": "x"}}, {"syntax": True},
                    {"without": "b"}, {"like": 1}):  # fmt: skip
        with pytest.raises(UsageError, match=f"A Query is combined with {next(iter(options))}"):
            index.search(query, **options)


def test_search_takes_a_mapping_as_filters(index, home):
    assert [hit.path.name for hit in index.search("a", filters={"path": "a.toy"})] == ["a.toy"]
    assert len(index.search("a", filters={"paths": ["a.toy", "b.toy"]})) == 2
    query = library.Query((library.Term("a"),), filters={"path": "b.toy"}, mode="vector")
    assert query.mode is Mode.VECTOR
    assert [hit.path.name for hit in index.search(query)] == ["b.toy"]
    with pytest.raises(UsageError, match=r"There is no filter 'pth'\. Did you mean path"):
        index.search("a", filters={"pth": "a.toy"})


def test_one_text_is_one_pattern(tmp_path):
    requests = []

    @contextmanager
    def make_indexer(*_, **__):
        def run(request, progress, before_changes):
            before_changes()
            requests.append(request.options[b""])
            return NOTHING_DONE

        yield SimpleNamespace(run=run, encoder=ToyEncoder())

    with (
        replaced({(folders, "make_indexer"): make_indexer}),
        library.open_index(home=tmp_path / "indexes") as index,
    ):
        index.add_folder(tmp_path, include="*.png", exclude=Path("a"))
        index.add_folder(tmp_path, include=["*.png", "*.jpg"], exclude=None)
        index.add_folder(tmp_path, exclude=())
    assert [(options.include, options.exclude) for options in requests] == [
        (("*.png",), ("a",)),
        (("*.png", "*.jpg"), ("a",)),
        (("*.png", "*.jpg"), ()),
    ]
