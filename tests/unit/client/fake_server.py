"""Fake server: prepared responses for the client tests."""

import json

import httpx

URL = "http://127.0.0.1:7788"
TOKEN = "t0k3n"  # noqa: S105 - token of the fake server

HIT = {
    "id": 7,
    "path": "/photos/a\\xff.jpg",
    "copies": ["/photos/b.jpg"],
    "width": 640,
    "height": 480,
    "format": "JPEG",
    "taken_at": "2019-05-01T12:00:00",
    "camera": "NIKON D90",
    "latitude": 48.5,
    "longitude": -2.25,
    "modified_at": 1556704800.5,
    "size_bytes": 12345,
    "texts": [{"kind": "title", "text": "a mill", "language": "en", "source": "sidecar"}],
    "links": {
        "self": "/v1/indexes/default/pictures/7",
        "original": "/v1/indexes/default/pictures/7/original",
        "thumbnail": "/v1/indexes/default/pictures/7/thumbnail",
    },
    "rank": 1,
    "score": 0.25,
    "visual": 0.125,
    "text": 0.5,
    "matched": {"text": "a mill", "kind": "title", "language": "en", "spans": [[2, 6]]},
    "confidence": 0.75,
    "band": "likely",
}

JOB = {
    "id": "ab12",
    "index": "default",
    "source": "photos",
    "state": "running",
    "phase": "encode",
    "done": 3,
    "total": 9,
    "report": None,
    "error": None,
}


def hit_documents(first, count):
    return [HIT | {"id": rank, "rank": rank} for rank in range(first, first + count)]


def page_document(documents, cursor=None, generation=1):
    return {
        "query": "a mill",
        "mode": "vector",
        "hits": documents,
        "next_cursor": cursor,
        "match": "likely",
        "calibrated": True,
        "generation": generation,
        "pictures": 1000,
        "passed": 1000,
        "encoder": "starter",
        "timings_s": {},
        "dropped_tokens": 0,
        "devices": {},
    }


def json_response(content, status=200, **headers):
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=content, headers=header_fields)


def problem_response(status, detail, kind=None, **headers):
    document = {"type": "about:blank", "title": "x", "status": status, "detail": detail}
    return json_response(document | ({} if kind is None else {"kind": kind}), status, **headers)


class FakeServer:
    """Transport handler that returns prepared responses in order and records the requests."""

    def __init__(self, *responses):
        self._responses = list(responses)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        response = self._responses.pop(0)
        if isinstance(response, Exception):
            raise response
        # A response can be read only once, so each client gets a copy.
        return httpx.Response(
            response.status_code, content=response.content, headers=response.headers
        )

    @property
    def transport(self):
        return httpx.MockTransport(self)

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests]
