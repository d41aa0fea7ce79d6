"""A small reverse proxy that serves another server below a path."""

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding"}


def make_handler(upstream, prefix, *, strips, headers):
    """Return a handler that forwards what is below a prefix, and answers 404 to all else."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size)
            path = urlsplit(self.path).path
            if path != prefix and not path.startswith(f"{prefix}/"):
                self.send_error(404, "outside of the prefix")
                return
            target = self.path.removeprefix(prefix) if strips else self.path
            target = target if target.startswith("/") else f"/{target}"
            sent = {name: value for name, value in self.headers.items() if name not in HOP_HEADERS}
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=60)
            connection.request(self.command, target, body, sent | headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_HEADERS | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_HEAD = do_POST = do_DELETE = do_OPTIONS = forward  # noqa: N815

        def log_message(self, *args):
            pass

    return Handler


@contextmanager
def run_reverse_proxy(upstream, prefix, *, strips, headers=None):
    """Serve a server below a prefix of another port; yield its URL there.

    Args:
        upstream: URL of the server.
        prefix: The path, such as ``/photos``.
        strips: True if requests are forwarded without the prefix.
        headers: Headers that are set on forwarded requests.
    """
    handler = make_handler(upstream, prefix, strips=strips, headers=headers or {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{prefix}"
        finally:
            server.shutdown()
            thread.join()
