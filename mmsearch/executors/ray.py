"""Executor that runs tasks in actors of a Ray cluster, which may be on other hosts.

Each actor is a process that makes its worker from the pickled ``make_worker`` and keeps it. What an
actor needs comes with a call, never from the object store: objects of a lost node are lost, and
with them the actors that were made from them. `mmsearch.executors._pool` says which actor gets
what.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

import mmsearch
from mmsearch.core.errors import (
    DecodeError,
    Hint,
    MMSearchError,
    StateError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)
from mmsearch.core.plugins import require_packages
from mmsearch.core.results import TaskFailure
from mmsearch.core.threads import available_cpus, limit_cpus
from mmsearch.executors._pool import (
    TASKS_AHEAD,
    Pool,
    WorkerLostError,
    WorkerRestartedError,
)

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_TIMEOUT_S: Final = 5
"""Seconds to reach the head of the cluster."""

ROOM_TIMEOUT_S: Final = 30
"""Seconds to wait for processors that other work on the cluster uses."""

RUNS_AT_ONCE: Final = 2
"""Number of runs whose tasks an actor works on at once: files are hashed beside encoding."""

_ADDRESS: Final = re.compile(r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")
_LOCAL: Final = "local"
_PINGS: Final = "pings"
_DOCS: Final = "docs/how-to/ray.md has the commands."

_logger = logging.getLogger("mmsearch")


def build(workers: int = 0, address: str = "", gpus_per_worker: float = 0.0) -> RayExecutor:
    """Return an executor on a cluster; connect to it and start its actors.

    Args:
        workers: Number of actors; 0 for one per node, or per GPU if they need GPUs.
        address: HOST:PORT of the head. This computer must be a node of the cluster. Empty for
            ``$RAY_ADDRESS``, or a cluster on this computer for the life of the executor.
        gpus_per_worker: GPUs of each actor; a part of one if it is below 1.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: A value is not valid.
        UnreachableError: Nothing answers at the address within `CONNECT_TIMEOUT_S`.
        UnauthorizedError: The cluster wants another token, or this process has none.
        StateError: The cluster has another version, is too small, or this computer is no node of
            it.
    """
    address = address or os.environ.get("RAY_ADDRESS", "") or _LOCAL
    _set_environment(is_local=address == _LOCAL)
    require_packages("Indexing on a cluster", "ray", "ray")
    return RayExecutor(workers, address, gpus_per_worker)


class RayExecutor:
    """Actors of a cluster that implement `mmsearch.core.protocols.Executor`.

    Several runs may be open at once, up to `RUNS_AT_ONCE` with full speed.

    Args:
        workers: See `build`.
        address: See `build`.
        gpus_per_worker: See `build`.

    Attributes:
        workers: Number of actors.
        cpus_per_worker: Number of processors that each of them has.
    """

    def __init__(self, workers: int, address: str, gpus_per_worker: float) -> None:
        self._actors: list[Any] = []
        self._owns_connection = _connect(address)
        try:
            nodes = _list_nodes()
            self.workers, self.cpus_per_worker = _divide(nodes, workers, gpus_per_worker)
            _wait_for_room(nodes, self.workers, self.cpus_per_worker, gpus_per_worker)
            for _ in range(self.workers):
                self._actors.append(_start_actor(self.cpus_per_worker, gpus_per_worker))
        except BaseException:
            self._disconnect()
            raise
        # Equal factories share the workers of earlier runs.
        self._make_workers: list[Callable[[], Any]] = []

    def run(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Yield each task with its result, in the order of the results.

        A worker that takes longer for a task than ``make_worker.time_limit_s`` allows, if there is
        such a method, or whose process is stopped, counts as dead.

        Raises:
            DeadlineError: The caller's deadline (`core.deadlines`) has passed.
            StateError: A worker has another version of mmsearch, Python or Ray, or no worker
                answers.
        """
        if make_worker not in self._make_workers:
            self._make_workers.append(make_worker)
        key = self._make_workers.index(make_worker)
        calls = _ActorCalls(self._actors, key, make_worker)
        time_limit_s = getattr(make_worker, "time_limit_s", lambda task: float("inf"))
        pool = Pool(calls, self.workers, tasks, time_limit_s=time_limit_s, on_lost=_log_lost)
        yield from pool.run()

    def close(self) -> None:
        """End the actors, and the connection to the cluster if this executor has opened it."""
        self._disconnect()

    def _disconnect(self) -> None:
        import ray  # noqa: PLC0415 - as everywhere here: only clusters need it

        for actor in self._actors:
            if ray.is_initialized():
                ray.kill(actor)
        self._actors.clear()
        if self._owns_connection:
            ray.shutdown()


class WorkerActor:
    """Process of an actor, with a worker for each run.

    Args:
        cpus: Number of processors that it may use.
    """

    def __init__(self, cpus: int) -> None:
        limit_cpus(cpus)
        self._workers: dict[int, Callable[[Any], Any]] = {}
        self._lock = Lock()

    def ping(self) -> None:
        """Return at once; a thread of its own runs this, however busy the others are."""

    def prepare(
        self, key: int, make_worker: Callable[[], Any], versions: Mapping[str, str]
    ) -> None:
        """Make the worker of a run, unless there is one.

        Args:
            key: Number of the run's factory.
            make_worker: Factory of the worker.
            versions: Versions of the process that indexes.

        Raises:
            StateError: A version differs.
            MMSearchError: The worker cannot be made here.
        """
        with self._lock:
            check_versions(versions, socket.gethostname())
            if key not in self._workers:
                self._workers[key] = make_worker()

    def work(self, key: int, task: Any) -> tuple[bool, bytes]:
        """Return whether there is a worker, and its pickled result.

        Pickled here, arrays can be written to in the other process.
        """
        from ray import cloudpickle  # noqa: PLC0415

        worker = self._workers.get(key)
        if worker is None:
            return False, b""
        try:
            result = worker(task)
        except DecodeError as error:
            result = TaskFailure(error.message, transient=bool(error.details.get("transient")))
        return True, cloudpickle.dumps(result)


def own_versions() -> dict[str, str]:
    """Return the versions that must be the same in all processes of a run."""
    import ray  # noqa: PLC0415

    python = ".".join(platform.python_version_tuple()[:2])
    return {"mmsearch": mmsearch.__version__, "Python": python, "Ray": ray.__version__}


def check_versions(expected: Mapping[str, str], host: str) -> None:
    """Raise if this process has other versions than the one that indexes.

    Args:
        expected: Versions of that one.
        host: Name of this host, for the message.

    Raises:
        StateError: A version differs.
    """
    own = own_versions()
    for name, version in expected.items():
        if own[name] != version:
            raise StateError(
                f"The worker on {host} has {name} {own[name]}, but this computer has {version}.",
                "Install the same versions on all hosts.",
            )


class _ActorCalls:
    """Calls of one run to the actors; implements `mmsearch.executors._pool.Calls`.

    Args:
        actors: The actors; the list is empty once the executor is closed.
        key: Number of the run's factory.
        make_worker: Factory of the workers.
    """

    def __init__(self, actors: Sequence[Any], key: int, make_worker: Callable[[], Any]) -> None:
        self._actors = actors
        self._key = key
        self._make_worker = make_worker
        self._versions = own_versions()

    def probe(self, worker: int) -> Any:
        prepare = self._actors[worker].prepare
        return prepare.remote(self._key, self._make_worker, self._versions)

    def ping(self, worker: int) -> Any:
        return self._actors[worker].ping.options(concurrency_group=_PINGS).remote()

    def kill(self, worker: int) -> None:
        import ray  # noqa: PLC0415

        ray.kill(self._actors[worker], no_restart=False)

    def start(self, worker: int, task: Any) -> Any:
        return self._actors[worker].work.remote(self._key, task)

    def wait(self, references: Sequence[Any], timeout_s: float) -> Any | None:
        import ray  # noqa: PLC0415

        timeout = None if timeout_s == float("inf") else timeout_s
        ready, _ = ray.wait(list(references), num_returns=1, timeout=timeout, fetch_local=False)
        return ready[0] if ready else None

    def result(self, reference: Any) -> Any:
        import ray  # noqa: PLC0415
        from ray import cloudpickle  # noqa: PLC0415

        try:
            value = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise _cause_of(error) from None
        except ray.exceptions.RayError as error:
            raise WorkerLostError(str(error).splitlines()[0]) from error
        if value is None:
            # The answer to a probe or a ping.
            return None
        is_ready, content = value
        if not is_ready:
            raise WorkerRestartedError
        return cloudpickle.loads(content)

    def cancel(self, reference: Any) -> None:
        import ray  # noqa: PLC0415

        # A run may be abandoned after the executor was closed, when Ray would connect again.
        if self._actors:
            ray.cancel(reference)


def _cause_of(error: Any) -> BaseException:
    """Return what a worker raised; a worker that cannot import its code has another version."""
    cause: BaseException = error.cause
    if isinstance(cause, ModuleNotFoundError | AttributeError) and "mmsearch" in str(cause):
        return StateError(
            f"A worker has another mmsearch than this computer ({cause}).",
            "Install the same versions on all hosts.",
        )
    return cause


def _log_lost(worker: int) -> None:
    _logger.warning("Worker %d of the cluster was lost; others do its work.", worker + 1)


# --- the cluster ---


def _connect(address: str) -> bool:
    """Connect this process to a cluster; return False if the program has done so before."""
    if address != _LOCAL:
        _check_reachable(address)
        _check_token()
    import ray  # noqa: PLC0415

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {
        "address": address,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": False,
    }
    if address == _LOCAL:
        options |= {"num_cpus": available_cpus(), "include_dashboard": False}
    try:
        ray.init(**options)
    except ray.exceptions.AuthenticationError as error:
        raise _token_error(address) from error
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        # Ray tells these cases apart in its messages only.
        raise _connection_error(address, str(error)) from error
    _log_messages_of_ray()
    return True


def _log_messages_of_ray() -> None:
    """Send to the log what Ray says of nodes, such as their death.

    It would print that on standard output, among the results of a command.
    """
    from ray._private import worker  # noqa: PLC0415

    def log(data: Mapping[str, Any], **_: Any) -> None:
        _logger.info("Ray: %s", " ".join(data["lines"]))

    worker.print_to_stdstream = log


def _set_environment(*, is_local: bool) -> None:
    """Set the variables that Ray reads when it is imported, unless the user has set them."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not is_local:
        # Ray would try a wrong token for 20 s, and look for a node on this computer for a minute.
        variables |= {
            "RAY_AUTH_MODE": "token",
            "RAY_NUM_REDIS_GET_RETRIES": str(CONNECT_TIMEOUT_S - 2),
            "RAY_gcs_server_request_timeout_seconds": str(CONNECT_TIMEOUT_S),
        }
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _connection_error(address: str, reason: str) -> MMSearchError:
    if "Version mismatch" in reason:
        versions = ", ".join(line.strip() for line in reason.splitlines() if ":" in line)
        return StateError(
            f"The cluster has another version of Ray or Python ({versions}).",
            "Install the same versions on all hosts.",
        )
    if reason.startswith("Failed to connect to Ray cluster"):
        return _token_error(address)
    if "node" in reason.lower() or "raylet" in reason.lower():
        return StateError(
            f"This computer is not a node of the cluster at {address}.",
            f"Run here: ray start --address={address} --num-cpus=0 . {_DOCS}",
        )
    return StateError(f"Ray did not start: {' '.join(reason.split())[:300]}", _DOCS)


def _token_error(address: str) -> UnauthorizedError:
    return UnauthorizedError(
        f"The cluster at {address} refuses this computer's token.",
        "Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token that the head was started with.",
    )


def _check_token() -> None:
    """Raise if there is no token; without one, anyone could run code on the cluster."""
    if os.environ["RAY_AUTH_MODE"] != "token":
        return
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    if not os.environ.get("RAY_AUTH_TOKEN") and not Path(path).is_file():
        raise UnauthorizedError(
            "There is no token for the cluster.",
            "Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token that the head was started"
            " with; or RAY_AUTH_MODE=disabled for a cluster without tokens, where anyone can run"
            " programs.",
        )


def _check_reachable(address: str) -> None:
    """Raise unless something listens at an address."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise UsageError(
            f"{address!r} is not the address of a cluster.",
            Hint("{} HOST:PORT of its head, such as 10.0.0.1:6379.", "Give", "Give --address"),
        )
    try:
        host = match["host"].strip("[]")
        socket.create_connection((host, int(match["port"])), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise UnreachableError(
            f"The head of the cluster at {address} cannot be reached ({reason}).",
            f"Check the address, and that the head runs (ray start --head). {_DOCS}",
        ) from error


def _list_nodes() -> list[Mapping[str, float]]:
    """Return the resources of the nodes that are alive."""
    import ray  # noqa: PLC0415

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _divide(
    nodes: Sequence[Mapping[str, float]], workers: int, gpus_per_worker: float
) -> tuple[int, int]:
    """Return the number of workers and of the processors of each.

    Args:
        nodes: Resources of each node.
        workers: Number of workers wanted; 0 for one per node, or per GPU if they need GPUs.
        gpus_per_worker: GPUs of each worker.

    Raises:
        StateError: No node has what a worker needs.
    """
    needed = "GPU" if gpus_per_worker else "CPU"
    usable = [node for node in nodes if node.get(needed, 0) and node.get("CPU", 0)]
    if not usable:
        raise StateError(
            f"No node of the cluster has a {needed} for a worker.",
            "Start nodes that have: ray start --address=HOST:PORT",
        )
    if not workers:
        per_node = [
            max(1, int(n["GPU"] / gpus_per_worker)) if gpus_per_worker else 1 for n in usable
        ]
        workers = sum(per_node)
    on_a_node = -(-workers // len(usable))
    return workers, max(1, int(min(node["CPU"] for node in usable)) // on_a_node)


def _wait_for_room(
    nodes: Sequence[Mapping[str, float]], workers: int, cpus: int, gpus_per_worker: float
) -> None:
    """Wait until the cluster has room for all workers; what a run used is free a little later.

    Raises:
        StateError: The cluster is too small, or others still use it after `ROOM_TIMEOUT_S`.
    """
    import ray  # noqa: PLC0415

    needed = {"CPU": float(workers * cpus), "GPU": workers * gpus_per_worker}
    owned = {name: sum(node.get(name, 0) for node in nodes) for name in needed}
    give_up_at = time.monotonic() + ROOM_TIMEOUT_S
    while True:
        free = ray.available_resources()
        lacking = [name for name in needed if free.get(name, 0) + 1e-6 < needed[name]]
        if not lacking:
            return
        if needed[lacking[0]] > owned[lacking[0]] or time.monotonic() > give_up_at:
            break
        time.sleep(0.2)
    name = lacking[0]
    raise StateError(
        f"{workers} workers need {needed[name]:g} {name}s, but the cluster has"
        f" {free.get(name, 0):g} free ones of {owned[name]:g}.",
        Hint(
            "Wait for other work on it, add nodes, or {}.",
            "ask for fewer workers",
            "give a smaller number of --workers",
        ),
    )


def _start_actor(cpus: int, gpus: float) -> Any:
    import ray  # noqa: PLC0415

    actor_class = ray.remote(
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=-1,
        # The pool gives a lost task to another actor at once.
        max_task_retries=0,
        max_concurrency=(TASKS_AHEAD + 1) * RUNS_AT_ONCE,
        concurrency_groups={_PINGS: 1},
        scheduling_strategy="SPREAD",
    )(WorkerActor)
    return actor_class.remote(cpus)
