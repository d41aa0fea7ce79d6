"""What an operator watches, in Prometheus' text format."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.core.requests import SearchResult
from mmsearch.server.index_pool import Desks

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Telemetry:
    """The measurements of one server.

    Args:
        desks: How many calls wait there is read when somebody looks.
    """

    def __init__(self, desks: Desks) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Waiting(desks))
        self._requests = Counter(
            "mmsearch_requests", "Requests.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "mmsearch_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._stages = Histogram(
            "mmsearch_search_seconds",
            "Steps of a search, with all that was answered together.",
            ["index", "stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._pictures: dict[str, int] = {}
        self._registry.register(_Pictures(self._pictures))

    def note_search(self, index: str, result: SearchResult) -> None:
        """Count the steps of a search."""
        self._pictures[index] = result.pictures
        for stage, seconds in result.timings_s.items():
            self._stages.labels(index, stage).observe(seconds)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)


class _Waiting(Collector):
    def __init__(self, desks: Desks) -> None:
        self._desks = desks

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("mmsearch_waiting", "Calls that wait.", labels=["index"])
        for desk in self._desks.opened():
            family.add_metric([desk.name], desk.waiting)
        yield family


class _Pictures(Collector):
    def __init__(self, pictures: dict[str, int]) -> None:
        self._pictures = pictures

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "mmsearch_pictures", "Pictures at the last search.", labels=["index"]
        )
        for index, count in list(self._pictures.items()):
            family.add_metric([index], count)
        yield family


class Timed:
    """An ASGI layer that counts requests by the route that answered them."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            # Paths that no route knows are as many as anyone likes to ask for.
            route = getattr(scope.get("route"), "path", "none")
            known = scope["method"] in {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
            method = scope["method"] if known else "other"
            seconds = time.perf_counter() - began
            # What was answered is sent when the event loop turns: counting shall not keep it.
            asyncio.get_running_loop().call_soon(
                self._telemetry.note_request, method, route, status, seconds
            )
