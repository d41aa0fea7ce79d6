"""Host and path of a request target (RFC 9112, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HOST_PATTERN = re.compile(
    rb"(?:\[[0-9a-f:.]+\]|[-\w.~!$&'()*+,;=%]*)(?::\d*)?", re.IGNORECASE | re.ASCII
)
_ABSOLUTE_PATTERN = re.compile(rb"([a-z][a-z0-9+.-]*)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def to_origin_form(target: bytes, headers: Iterable[tuple[bytes, bytes]], version: str) -> bytes:
    """Return the path and query of a request target.

    Args:
        target: Target in the request line.
        headers: Headers of the request, with names in lower case.
        version: HTTP version, such as ``1.1``.

    Raises:
        ValueError: The request has no host, several hosts or an invalid one. The message is a
            sentence for the client.
    """
    hosts = [value.strip() for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        raise ValueError("The request has several Host headers. Send one.")
    if not hosts and version != "1.0":
        raise ValueError("The request has no Host header. HTTP/1.1 requires one.")
    if hosts and not _HOST_PATTERN.fullmatch(hosts[0]):
        raise ValueError("The request's Host header is not a name or address with a port.")
    absolute = _ABSOLUTE_PATTERN.match(target)
    if absolute is None:
        return target
    scheme, host, path_and_query = absolute.groups()
    if scheme.lower() != b"http":
        raise ValueError("The request's URL is not an http URL.")
    if not hosts or _without_default_port(host) != _without_default_port(hosts[0]):
        raise ValueError("The request's URL and its Host header name different hosts.")
    return path_and_query if path_and_query.startswith(b"/") else b"/" + path_and_query


def _without_default_port(host: bytes) -> bytes:
    return host.lower().removesuffix(b":80").removesuffix(b":")
