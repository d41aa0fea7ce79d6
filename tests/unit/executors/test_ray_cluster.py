"""Addresses, tokens, versions and shares of workers of the Ray executor, without a cluster."""

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import StateError, UnauthorizedError, UnreachableError, UsageError
from mmsearch.core.threads import available_cpus
from mmsearch.executors import ray as executor

NODE = {"CPU": 8.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        ([NODE], 0, 0, (1, 8)),
        ([NODE, NODE], 0, 0, (2, 8)),
        ([NODE, NODE], 4, 0, (4, 4)),
        ([NODE, NODE], 3, 0, (3, 4)),
        # A node that only runs the command gives no processors.
        ([NODE, {"CPU": 0.0}], 0, 0, (1, 8)),
        ([NODE, {"memory": 1e9}], 0, 0, (1, 8)),
        ([NODE | {"GPU": 4.0}, NODE], 0, 1, (4, 2)),
        ([NODE | {"GPU": 4.0}], 0, 0.5, (8, 1)),
        ([NODE | {"GPU": 1.0}] * 2, 2, 1, (2, 8)),
        ([{"CPU": 1.0}], 3, 0, (3, 1)),
    ],
)
def test_divide_gives_each_worker_its_share_of_a_node(nodes, workers, gpus, expected):
    assert executor._divide(nodes, workers, gpus) == expected


@given(st.lists(st.integers(1, 64), min_size=1, max_size=5), st.integers(0, 40))
def test_divide_never_asks_for_more_processors_than_the_nodes_have(cpus, workers):
    count, each = executor._divide([{"CPU": float(n)} for n in cpus], workers, 0)
    assert count == (workers or len(cpus))
    on_a_node = -(-count // len(cpus))
    assert each == 1 or all(each * on_a_node <= n for n in cpus)


@pytest.mark.parametrize(("gpus", "missing"), [(1, "GPU"), (0, "CPU")])
def test_divide_without_a_usable_node_says_what_is_missing(gpus, missing):
    with pytest.raises(StateError, match=f"No node of the cluster has a {missing}"):
        executor._divide([{"CPU": 0.0, "memory": 1.0}], 0, gpus)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "ray://10.0.0.1:10001",
        "http://head:6379",
        "head:0",
        "head:99999",
        ":6379",
        "a b:1",
    ],
)
def test_address_of_another_form_is_refused(address):
    with pytest.raises(UsageError, match="is not the address of a cluster") as caught:
        executor._check_reachable(address)
    assert "such as 10.0.0.1:6379" in caught.value.hint


@pytest.mark.enable_socket
def test_closed_port_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started_at = time.monotonic()
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} cannot be reached"):
        executor._check_reachable(f"127.0.0.1:{port}")
    assert time.monotonic() - started_at < executor.CONNECT_TIMEOUT_S


def test_silent_head_is_refused_after_the_timeout(monkeypatch):
    def connect(address, timeout):
        assert timeout == executor.CONNECT_TIMEOUT_S == 5
        raise TimeoutError

    monkeypatch.setattr(executor.socket, "create_connection", connect)
    with pytest.raises(UnreachableError, match=r"\(no answer\)"):
        executor._check_reachable("[fd00::1]:6379")


@pytest.mark.parametrize("kind", ["variable", "file", "home"])
def test_token_is_found_where_ray_looks_for_it(monkeypatch, tmp_path, kind):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UnauthorizedError, match="There is no token for the cluster"):
        executor._check_token()
    if kind == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    else:
        path = tmp_path / ("token" if kind == "file" else ".ray/auth_token")
        path.parent.mkdir(exist_ok=True)
        path.write_text("abc")
        if kind == "file":
            monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    executor._check_token()


def test_cluster_without_tokens_must_be_meant(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    executor._check_token()


def test_environment_turns_tokens_on_and_telemetry_off_unless_the_user_says_else(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_NUM_REDIS_GET_RETRIES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_gcs_server_request_timeout_seconds", "60")
    executor._set_environment(is_local=False)
    environment = executor.os.environ
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["RAY_gcs_server_request_timeout_seconds"] == "60"


@pytest.mark.parametrize("name", ["mmsearch", "Python", "Ray"])
def test_other_version_of_a_worker_is_refused(monkeypatch, name):
    versions = {"mmsearch": "1.0", "Python": "3.11", "Ray": "2.60.0"}
    monkeypatch.setattr(executor, "own_versions", lambda: versions)
    executor.check_versions(versions, "host")
    with pytest.raises(StateError, match=f"worker on host7 has {name} {versions[name]}, but this"):
        executor.check_versions(versions | {name: "9.9"}, "host7")


def test_connection_errors_of_ray_become_sentences():
    mismatch = executor._connection_error(
        "head:1", "Version mismatch: The cluster\n  Ray: 2.59.0\n"
    )
    assert "another version of Ray or Python (Ray: 2.59.0)" in mismatch.message.replace(
        "Version mismatch: The cluster, ", ""
    )
    refused = executor._connection_error("head:1", "Failed to connect to Ray cluster at head:1")
    assert isinstance(refused, UnauthorizedError)
    no_node = executor._connection_error("head:1", "Can't find a `node_ip_address.json` of a node")
    assert "This computer is not a node of the cluster at head:1" in no_node.message
    other = executor._connection_error("head:1", "something\nelse")
    assert other.message == "Ray did not start: something else"


def test_actor_limits_the_processors_of_its_process(monkeypatch):
    monkeypatch.setattr("mmsearch.core.threads._max_cpus", None)
    executor.WorkerActor(1)
    assert available_cpus() == 1


def test_run_abandoned_after_the_executor_was_closed_does_not_connect_again(monkeypatch):
    ray = pytest.importorskip("ray")
    cancelled = []
    monkeypatch.setattr(ray, "cancel", cancelled.append)
    actors = [object()]
    calls = executor._ActorCalls(actors, 0, executor.own_versions)
    calls.cancel("first")
    actors.clear()
    calls.cancel("second")
    assert cancelled == ["first"]
