"""A small HTTP balancer: requests go to servers in turn, and to the next one if one is gone."""

import http.client
import itertools
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


def make_handler(servers, counts):
    """Return a handler that forwards requests; ``counts`` gets the number of answers by server."""
    turns, lock = itertools.count(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                first = next(turns)
            for place in range(len(servers)):
                server = servers[(first + place) % len(servers)]
                connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                except OSError:
                    continue
                finally:
                    connection.close()
                if answer.status != 503:
                    break
            else:
                self.send_error(502)
                return
            counts[server] += 1
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815

        def log_message(self, *args):
            pass

    return Handler


@contextmanager
def run_balancer(servers):
    """Serve what servers serve, in turn; yield the URL, and the number of answers by server."""
    counts = dict.fromkeys(servers, 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), make_handler(servers, counts)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", counts
        finally:
            server.shutdown()
            thread.join()
