"""Workers on a cluster that index for this process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mmsearch.core import plugins
from mmsearch.core.files import create_file
from mmsearch.core.protocols import Executor
from mmsearch.core.settings import Settings
from mmsearch.storage.layout import IndexLayout

if TYPE_CHECKING:
    from mmsearch.factories.indexing import EncodeWorkerSpec

_MARK_PREFIX: Final = ".shared-"


@dataclass(frozen=True)
class Cluster:
    """Workers of a cluster, and what they need.

    Attributes:
        executor: Runs tasks on the workers.
        workers: Number of workers.
        cpus_per_worker: Number of processors of each worker.
    """

    executor: Executor
    workers: int
    cpus_per_worker: int

    @contextmanager
    def adapt(self, spec: EncodeWorkerSpec, layout: IndexLayout) -> Iterator[EncodeWorkerSpec]:
        """Return the spec of an encode worker for workers of the cluster.

        Args:
            spec: Spec of a worker in a process of this host.
            layout: File layout of the index, whose writer lock this process holds.
        """
        settings = replace(spec.settings, workers=self.cpus_per_worker)
        with _mark_folder(layout) as mark:
            yield replace(spec, settings=settings, folder_mark=mark)


@contextmanager
def open_cluster(settings: Settings) -> Iterator[Cluster | None]:
    """Start workers on the cluster of the settings; None if they name no cluster.

    Args:
        settings: Settings of this process.

    Raises:
        MMSearchError: The cluster cannot be used; see `mmsearch.executors.ray.build`.
    """
    if settings.executor == "local":
        yield None
        return
    plugin = plugins.load("executors", settings.executor)
    executor = plugin.build(settings.workers, settings.ray_address, settings.gpus_per_worker)
    try:
        yield Cluster(executor, executor.workers, executor.cpus_per_worker)
    finally:
        executor.close()


@contextmanager
def _mark_folder(layout: IndexLayout) -> Iterator[str]:
    """Write a file that proves to other hosts that their folder is this one; yield its name."""
    for left in layout.folder.glob(f"{_MARK_PREFIX}*"):
        # A process that was killed left it.
        with suppress(OSError):
            left.unlink()
    name = f"{_MARK_PREFIX}{secrets.token_hex(8)}"
    create_file(layout.folder / name).close()
    try:
        yield name
    finally:
        with suppress(OSError):
            (layout.folder / name).unlink()
