import time

import pytest

from mmsearch.core import deadlines
from mmsearch.core.errors import (
    DeadlineError,
    ServerError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)

grpc = pytest.importorskip("grpc")
milvus = pytest.importorskip("mmsearch.vector_stores.milvus")
connection_module = pytest.importorskip("mmsearch.vector_stores._milvus_connection")
MilvusException = pytest.importorskip("pymilvus.exceptions").MilvusException


class RpcError(grpc.RpcError):
    def __init__(self, code):
        super().__init__()
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "details"


def from_itself(error):
    """Return an error as pymilvus raises it: its cause is the error itself."""
    error.__cause__ = error
    return error


def caused_by(error, cause):
    error.__cause__ = cause
    return error


class Client:
    def __init__(self, error):
        self.error = error
        self.timeouts = []

    def list_collections(self, timeout):
        self.timeouts.append(timeout)
        raise self.error


def call(error):
    connection = connection_module.MilvusConnection("http://host:19530", "a secret")
    connection._client = Client(error)
    connection.call("list_collections", timeout_s=7)


CONNECT_FAILED = "Fail connecting to server on host:19530, illegal connection params"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (MilvusException(100, "can't find collection[x]"), ServerError, "lacks a collection"),
        (MilvusException(65535, "no\nbecause"), ServerError, "reports an error: no."),
        (MilvusException(2, CONNECT_FAILED), UnreachableError, "does not answer"),
        (RpcError(grpc.StatusCode.UNAVAILABLE), UnreachableError, "does not answer"),
        (RpcError(grpc.StatusCode.DEADLINE_EXCEEDED), UnreachableError, "does not answer"),
        (RpcError(grpc.StatusCode.UNAUTHENTICATED), UnauthorizedError, "MMSEARCH_SEARCH_TOKEN"),
        (
            caused_by(
                MilvusException(2, CONNECT_FAILED), RpcError(grpc.StatusCode.UNAUTHENTICATED)
            ),
            UnauthorizedError,
            "does not accept this user",
        ),
        (RpcError(grpc.StatusCode.PERMISSION_DENIED), UnauthorizedError, "does not allow"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda error: error, from_itself])
def test_errors_of_the_client_become_ours(error, expected, message, wrap):
    with pytest.raises(expected, match="host:19530") as caught:
        call(wrap(error) if error.__cause__ is None else error)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_deadline_bounds_calls():
    with deadlines.deadline(time.monotonic() - 1), pytest.raises(DeadlineError):
        call(AssertionError("not called"))
    connection = connection_module.MilvusConnection("http://host:19530", "")
    connection._client = client = Client(MilvusException(1, "no"))
    with deadlines.deadline(time.monotonic() + 3), pytest.raises(ServerError):
        connection.call("list_collections", timeout_s=7)
    assert 2 < client.timeouts[0] <= 3


def test_reads_are_tried_again_for_seconds_and_writes_are_not(monkeypatch):
    monkeypatch.setattr(connection_module, "_RETRY_PAUSE_S", 0)
    connection = connection_module.MilvusConnection("http://host:19530", "")

    class Recovering(Client):
        def list_collections(self, timeout):
            return ["photos"] if len(self.timeouts) == 2 else super().list_collections(timeout)

    connection._client = client = Recovering(MilvusException(1, "no"))
    assert connection.read("list_collections") == ["photos"]
    connection._client = client = Recovering(MilvusException(1, "no"))
    with pytest.raises(ServerError):
        connection.call("list_collections")
    assert len(client.timeouts) == 1
    for error, seconds, calls in (
        (MilvusException(100, "can't find collection[x]"), 3, 1),
        (RpcError(grpc.StatusCode.UNAUTHENTICATED), 3, 1),
        # The first call has taken all the time.
        (MilvusException(1, "no"), -1, 2),
    ):
        monkeypatch.setattr(connection_module, "_RETRY_S", seconds)
        connection._client = client = Client(error)
        with pytest.raises(ServerError):
            connection.read("list_collections")
        assert len(client.timeouts) == calls


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MMSEARCH_MILVUS_INDEX", "diskann"),
        ("MMSEARCH_MILVUS_REPLICAS", "0"),
        ("MMSEARCH_MILVUS_REPLICAS", "two"),
    ],
)
def test_variables_are_checked(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable):
        milvus.build("milvus+http://host:19530/photos", "photos")


@pytest.mark.parametrize(
    "url", ["http://host/photos", "milvus+http://host:19530", "milvus+http:///photos"]
)
def test_addresses_are_checked(url):
    with pytest.raises(UsageError, match="not one of Milvus"):
        milvus.build(url, "photos")


@pytest.mark.parametrize(
    ("variables", "token"),
    [
        ({}, ""),
        ({"MMSEARCH_SEARCH_TOKEN": "t"}, "t"),
        ({"MMSEARCH_SEARCH_PASSWORD": "p"}, "ann x:p"),
        ({"MMSEARCH_SEARCH_TOKEN": "t", "MMSEARCH_SEARCH_PASSWORD": "p"}, "t"),
    ],
)
def test_credentials_come_from_the_environment(monkeypatch, variables, token):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server = milvus.build("milvus+https://ann%20x@[::1]:1234/photos", "photos")
    assert (server._connection._uri, server._connection._token) == ("https://[::1]:1234", token)
