"""Prometheus metrics of a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.core.results import SearchResult
from mmsearch.server.batcher import IndexPool
from mmsearch.server.errors import METHODS
from mmsearch.server.writes import Writers

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Metrics of one server.

    Args:
        index_pool: Workers whose queue lengths are read at each scrape.
        writers: Writers whose queue lengths are read at each scrape.
    """

    def __init__(self, index_pool: IndexPool, writers: Writers) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_QueueCollector(index_pool, writers))
        self._requests = Counter(
            "mmsearch_requests", "Requests.", ["method", "route", "status"], registry=self._registry
        )
        self._request_seconds = Histogram(
            "mmsearch_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._stage_seconds = Histogram(
            "mmsearch_search_seconds",
            "Seconds that each stage of a search takes for its whole batch.",
            ["index", "stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._pictures = Gauge(
            "mmsearch_pictures",
            "Pictures in the index at its last search.",
            ["index"],
            registry=self._registry,
        )

        self._records = Counter(
            "mmsearch_records",
            "Pictures that clients added, updated, deleted or failed to add.",
            ["index", "outcome"],
            registry=self._registry,
        )

    def observe_records(self, index: str, outcomes: Mapping[str, int]) -> None:
        """Record the number of records that clients wrote, by outcome."""
        for outcome, count in outcomes.items():
            self._records.labels(index, outcome).inc(count)

    def observe_search(self, index: str, result: SearchResult) -> None:
        """Record the stage timings of a search."""
        self._pictures.labels(index).set(result.pictures)
        for stage, seconds in result.timings_s.items():
            self._stage_seconds.labels(index, stage).observe(seconds)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a request."""
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _QueueCollector(Collector):
    def __init__(self, index_pool: IndexPool, writers: Writers) -> None:
        self._index_pool = index_pool
        self._writers = writers

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "mmsearch_waiting", "Calls waiting in the queue.", labels=["index"]
        )
        for worker in self._index_pool.open_workers():
            family.add_metric([worker.name], worker.queue_length)
        yield family
        family = GaugeMetricFamily(
            "mmsearch_waiting_writes", "Writes waiting in the queue.", labels=["index"]
        )
        for writer in self._writers.open_writers():
            family.add_metric([writer.name], writer.queue_length)
        yield family


class MetricsMiddleware:
    """ASGI middleware that counts requests by the route that answered them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 500

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        finally:
            # Clients can request any number of unknown paths; they all share one label.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - started_s
            # The answer is sent in the next turn of the event loop; counting must not delay it.
            asyncio.get_running_loop().call_soon(
                self._metrics.observe_request, method, route, status, seconds
            )
