"""A local server in the role of a model hub, with faults."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" * 6 + "abcd"


class StandInHub(ThreadingHTTPServer):
    """A hub that serves the files of repositories.

    Attributes:
        files: Content by ``REPOSITORY/FILE``.
        stated_sha256: Checksums that are stated in place of the true ones, by file name.
        licence: Licence that the API states; None: there is no API.
        cuts: Numbers of bytes after which the next downloads of a large file are cut.
        answers: Statuses and headers of the next requests in place of the right ones.
        ranges: False: the server ignores ``Range``.
        large_bytes: Size from which files are stored elsewhere: their answers are redirects.
        store: Another server that has the large files; None: this one.
        etag: ETag of the bytes, as a store names them.
        requests: Method, path and headers of all requests so far.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.stated_sha256, self.requests = {}, {}, []
        self.licence, self.ranges, self.store = "mit", True, None
        self.cuts, self.answers, self.etag = [], [], None
        self.head_known = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repository, name, content):
        self.files[f"{repository}/{name}"] = content

    def gets(self, name):
        """The headers of the requests for the bytes of a file."""
        return [
            headers
            for method, path, headers in self.requests
            if method == "GET" and path.endswith(name) and "/api/" not in path
        ]

    def sha256(self, path):
        stated = self.stated_sha256.get(path.rpartition("/")[2])
        return stated or hashlib.sha256(self.files[path]).hexdigest()

    def handle_error(self, request, client_address):
        """Ignore errors of clients that hang up early."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        if not self.server.head_known:
            self._send(501)
            return
        self._answer()

    def do_GET(self):
        self._answer()

    def log_message(self, *arguments):
        pass

    def _answer(self):
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append((self.command, path, dict(self.headers)))
        self.close_connection = True
        if path.startswith("/api/models/"):
            self._send_info(path.removeprefix("/api/models/"))
            return
        if hub.answers:
            status, headers, content = hub.answers.pop(0)
            self._send(status, content, **headers)
            return
        key = path.strip("/").replace("stored/", "")
        repository, _, rest = key.partition("/resolve/")
        key = f"{repository}/{rest.partition('/')[2]}"
        content = hub.files.get(key)
        if content is None:
            self._send(404, b"Entry not found", X_Error_Code="EntryNotFound")
            return
        linked = {
            "X_Repo_Commit": COMMIT,
            "X_Linked_Etag": f'"{hub.sha256(key)}"',
            "X_Linked_Size": str(len(content)),
        }
        if hub.store is not None and not path.startswith("/stored/"):
            self._send(302, Location=f"{hub.store.url}/stored{path}", **linked)
            return
        self._send_content(content, hub.etag or f'"{hub.sha256(key)}"')

    def _send_info(self, rest):
        hub, repository = self.server, rest.partition("/revision/")[0]
        if hub.licence is None:
            self._send(404)
            return
        siblings = [
            {"rfilename": key.removeprefix(f"{repository}/"), "lfs": {"sha256": hub.sha256(key)}}
            for key in hub.files
            if key.startswith(f"{repository}/")
        ]
        info = {"sha": COMMIT, "cardData": {"license": hub.licence}, "siblings": siblings}
        self._send(200, json.dumps(info).encode())

    def _send_content(self, content, etag):
        hub, status, start = self.server, 200, 0
        headers = {"ETag": etag, "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted and hub.ranges and self.headers.get("If-Range") in (None, etag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self._send(416, Content_Range=f"bytes */{len(content)}")
                return
            status = 206
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = hub.cuts.pop(0) if hub.cuts and self.command == "GET" else None
        self._send(status, content[start:], cut=cut, **headers)

    def _send(self, status, content=b"", cut=None, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])


@contextmanager
def stand_in_hub():
    """Run a hub until the end of the context."""
    hub = StandInHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
