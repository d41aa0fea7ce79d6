"""Local web servers in the role of public ones, and a resolver that leads to them."""

import ipaddress
import socket
import threading
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mmsearch.sources._web.addresses import AddressPolicy

PUBLIC_HOST, PRIVATE_HOST = "127.0.0.1", "127.0.0.2"
"""Addresses that stand for the public internet and for a private network."""


class WebServer(ThreadingHTTPServer):
    """Web server with configured answers that records its requests."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, host, tls=None):
        super().__init__((host, 0), _Handler)
        self.port = self.server_port
        self.answers = {}
        self.requests = []
        self.connections = 0
        self.stop_event = threading.Event()
        self._tls_context = tls

    def get_request(self):
        connection, address = super().get_request()
        self.connections += 1
        # Otherwise a dead client would keep a thread.
        connection.settimeout(20)
        if self._tls_context is not None:
            connection = self._tls_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request, client_address):
        """Ignore errors of clients that hang up early, which many tests cause."""

    def url(self, path="/", host=None):
        return f"http://{host or self.server_address[0]}:{self.port}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            answer(self)
        else:
            send(self, 200, answer)

    def do_HEAD(self):
        self.close_connection = True
        answer = self.server.answers.get(self.path.partition("?")[0])
        if not isinstance(answer, bytes):
            self.send_error(405 if answer else 404)
            return
        send(self, 200, Content_Length=str(len(answer)), ETag=f'"{zlib.crc32(answer)}"')

    def log_message(self, *arguments):
        pass


def send(handler, status, content=b"", **headers):
    """Send a whole response."""
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(content))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def redirect(location, status=302):
    return lambda handler: send(handler, status, Location=location, Set_Cookie="seen=1")


@contextmanager
def run_web_server(host=PUBLIC_HOST, tls=None):
    """Run a server for the duration of the context."""
    server = WebServer(host, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stop_event.set()
        server.shutdown()
        thread.join()
        server.server_close()


class FakeResolver:
    """Resolver that gives each name its configured address lists, one after the other."""

    def __init__(self, **addresses_by_name):
        self.addresses_by_name = {
            name.replace("_", "."): list(answers) for name, answers in addresses_by_name.items()
        }
        self.requests = []

    async def __call__(self, host, port):
        self.requests.append(host)
        answers = self.addresses_by_name.get(host)
        if answers is None:
            if host in (PUBLIC_HOST, PRIVATE_HOST):
                return [host]
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def address_policy(*servers, names=None, **more):
    """Make a policy that allows only 127.0.0.1, at the ports of the servers."""
    return AddressPolicy(
        resolve=names or FakeResolver(),
        is_allowed=lambda address: address == PUBLIC_HOST,
        ports=frozenset(server.port for server in servers),
        **more,
    )


def write_certificate(file, address):
    """Write a self-signed certificate for photos.example and an address, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "photos.example")])
    now = datetime.now(UTC)
    names = [x509.DNSName("photos.example"), x509.IPAddress(ipaddress.ip_address(address))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(certificate.public_bytes(pem) + secret)
    return file
