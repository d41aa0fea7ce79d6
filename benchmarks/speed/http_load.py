"""Minimal HTTP clients on plain sockets, which use almost no CPU time themselves."""

from __future__ import annotations

import json
import os
import selectors
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class RawClient:
    """A client with one persistent connection."""

    def __init__(self, address: tuple[str, int], limit: int) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._limit = limit
        self._buffer = bytearray()
        self._body_length = -1

    def send(self, text: str) -> None:
        """Send a query."""
        body = json.dumps({"query": text, "limit": self._limit}).encode()
        self.socket.sendall(
            b"POST /v1/indexes/default/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    def receive(self) -> bytes | None:
        """Wait for a part of the response; return its body once it is complete, else None."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise RuntimeError("the server closed a connection")
        self._buffer += chunk
        if self._body_length < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            if not head.startswith(b"http/1.1 200 "):
                raise RuntimeError(f"the server answered {head.decode()}")
            del self._buffer[: end + 4]
            self._body_length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._buffer) != self._body_length:
            return None
        body, self._body_length = bytes(self._buffer), -1
        self._buffer.clear()
        return body

    def ask(self, text: str) -> bytes:
        """Send a query and wait for the complete response."""
        self.send(text)
        while (body := self.receive()) is None:
            pass
        return body

    def hits(self, text: str) -> list[dict[str, Any]]:
        """Send a query and return its hits."""
        hit_list: list[dict[str, Any]] = json.loads(self.ask(text))["hits"]
        return hit_list


def run_load(clients: Sequence[RawClient], texts: Iterable[str]) -> None:
    """Send all texts as queries; each client sends one query at a time."""
    remaining = iter(texts)
    in_flight = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            if (text := next(remaining, None)) is not None:
                client.send(text)
                in_flight += 1
        while in_flight:
            for key, _ in selector.select():
                if key.data.receive() is None:
                    continue
                if (text := next(remaining, None)) is None:
                    in_flight -= 1
                else:
                    key.data.send(text)


def process_cpu_s(pid: int) -> float:
    """Return the CPU seconds of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
