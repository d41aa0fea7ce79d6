"""Places of the parts of an index: its catalog, its files and its search server, by URL.

``<home>/<name>/index.toml`` names the parts that are not files in the folder of the index::

    catalog = "postgresql+psycopg://user@host/database"
    store = "s3://bucket/prefix"
    search = "milvus+https://host:19530/collection"

The folder of an index may come from anyone, so the file is untrusted: it cannot hold secrets, and
mmsearch contacts a server only if the user has named it on this machine, in ``mmsearch init`` or in
the variable ``MMSEARCH_KNOWN_SERVERS``. Credentials of the environment never go to any other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from mmsearch.core.arguments import check_fields
from mmsearch.core.errors import DamagedFileError, Hint, MMSearchError, StateError, UsageError
from mmsearch.core.files import (
    NotRegularError,
    create_folder,
    foreign_file_error,
    open_regular_file,
)
from mmsearch.core.settings import settings_file
from mmsearch.storage.atomic import atomic_write
from mmsearch.storage.layout import IndexLayout

KNOWN_SERVERS_VARIABLE: Final = "MMSEARCH_KNOWN_SERVERS"
"""Variable with servers, or URLs on them, that may be contacted, separated by spaces."""

MAX_FILE_BYTES: Final = 10_000
"""Maximum size of ``index.toml`` in bytes: Python's TOML parser takes quadratic time."""

MAX_KNOWN_BYTES: Final = 1_000_000
"""Maximum size of the file of known servers in bytes."""

MAX_URL_CHARS: Final = 1_000

POSTGRESQL: Final = "postgresql+psycopg"
MILVUS: Final = frozenset({"milvus+http", "milvus+https"})
STORE_SCHEMES: Final = frozenset(
    {
        *("s3", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"),
        *("sftp", "ssh", "smb", "hdfs", "webhdfs", "memory"),
    }
)
"""Schemes of fsspec for stores that several machines can write."""

PARTS: Final = ("catalog", "store", "search")
"""Parts of an index that may be outside of its folder."""

_SCHEMES: Final = {
    "catalog": frozenset({POSTGRESQL}),
    "store": STORE_SCHEMES,
    "search": MILVUS | {POSTGRESQL},
}
_EXAMPLES: Final = {
    "catalog": "postgresql+psycopg://user@host/database",
    "store": "s3://bucket/prefix",
    "search": "milvus+https://host:19530/collection, or postgresql+psycopg://user@host/database",
}
_SECRETS: Final = {
    "catalog": "MMSEARCH_CATALOG_PASSWORD",
    "store": "those of the store, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "search": "MMSEARCH_SEARCH_PASSWORD or MMSEARCH_SEARCH_TOKEN",
}

# Of libpq's parameters, these name a socket and make a connection stricter. Others could lead it to
# another host, or read and write files.
_QUERY_VALUES: Final = {
    "host": re.compile(r"/[^,]*"),
    "port": re.compile(r"[0-9]{1,5}"),
    "sslmode": re.compile(r"require|verify-ca|verify-full"),
}
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_ID: Final = re.compile("[0-9a-f]{32}")
_ALLOWED_CHARS: Final = re.compile(r"[!-\[\]-~]+")
_HEADER: Final = "# Where the parts of this index are. Secrets come from the environment only.\n"


@dataclass(frozen=True)
class Places:
    """URLs of the parts of an index that are not files in its folder; None: it is one.

    Attributes:
        catalog: The catalog: ``postgresql+psycopg://user@host/database``.
        store: Segments, built indexes and derived texts: a URL of fsspec, ``s3://bucket/prefix``.
        search: The search server: ``milvus+http://host:19530/collection``, ``milvus+https://...``
            or ``postgresql+psycopg://user@host/database``, with an optional ``?schema=NAME``.
        id: Random id of the index, 32 hexadecimal digits, by which a store knows its owner.

    Raises:
        UsageError: A URL has another scheme, a password or a token, or is malformed.
    """

    catalog: str | None = None
    store: str | None = None
    search: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.id is not None and not _ID.fullmatch(self.id):
            raise UsageError("The id of an index has 32 hexadecimal digits.", "Leave it out.")
        for part, url in self.urls().items():
            _check_url(part, url)

    def urls(self) -> dict[str, str]:
        """Return the URLs by the name of their part."""
        parts = {part: getattr(self, part) for part in PARTS}
        return {part: url for part, url in parts.items() if url is not None}

    def servers(self) -> dict[str, str]:
        """Return the server or the bucket of each URL by the name of its part."""
        return {part: server_of(url) for part, url in self.urls().items()}


def read_places(layout: IndexLayout) -> Places:
    """Return the places of an index, which may be contacted; without a file, all are None.

    Raises:
        StateError: The file names a server that the user has not named on this machine.
        UsageError: The file has an unknown part, or a URL that is not allowed.
        DamagedFileError: The file is a link, or cannot be read.
    """
    places = describe_places(layout)
    if places.urls():
        _require_known(layout, places)
    return places


def describe_places(layout: IndexLayout) -> Places:
    """Return the places that the file of an index names, only for display.

    Nothing may be contacted there: `read_places` asks whether the user knows the servers.

    Raises:
        UsageError: The file has an unknown part, or a URL that is not allowed.
        DamagedFileError: The file is a link, or cannot be read.
    """
    path = layout.places
    content = _read_file(path, MAX_FILE_BYTES)
    return Places() if content is None else _parse(path, content)


def write_places(layout: IndexLayout, places: Places) -> None:
    """Write the file of an index that exists as a folder, and remember the servers as known."""
    import tomlkit  # noqa: PLC0415 - only commands that make an index write it

    remember_servers(places)
    values = places.urls() if places.id is None else {**places.urls(), "id": places.id}
    content = _HEADER + tomlkit.dumps(values)
    atomic_write(layout.places, content.encode())


def server_of(url: str) -> str:
    """Return the server, or the bucket, of a URL: what decides who gets a request.

    Raises:
        ValueError: The URL is malformed.
    """
    split = urlsplit(url)
    server = f"{split.scheme.lower()}://{split.netloc.lower()}"
    query = dict(parse_qsl(split.query))
    where = [f"{name}={query[name]}" for name in ("host", "port") if name in query]
    return f"{server}/?{'&'.join(where)}" if where else server


def knows_servers(layout: IndexLayout) -> bool:
    """Return True if the file of an index is valid and names only known servers, or none."""
    try:
        return set(describe_places(layout).servers().values()) <= known_servers()
    except MMSearchError:
        return False


def known_servers(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the servers that the user has named on this machine."""
    content = _read_file(_known_servers_path(environment), MAX_KNOWN_BYTES) or b""
    named = environment.get(KNOWN_SERVERS_VARIABLE, "").split()
    servers = set()
    for url in [*named, *content.decode(errors="replace").splitlines()]:
        try:
            servers.add(server_of(url))
        except ValueError as error:
            raise UsageError(
                f"{url[:80]!r}, one of the known servers, is not a URL.",
                f"Correct ${KNOWN_SERVERS_VARIABLE} or {_known_servers_path(environment)}.",
            ) from error
    return servers


def remember_servers(places: Places, environment: Mapping[str, str] = os.environ) -> None:
    """Remember the servers of an index as known to the user on this machine."""
    servers = set(places.servers().values())
    known = known_servers(environment)
    if servers <= known:
        return
    path = _known_servers_path(environment)
    create_folder(path.parent)
    kept = (_read_file(path, MAX_KNOWN_BYTES) or b"").decode(errors="replace").splitlines()
    lines = [*kept, *sorted(servers - known)]
    atomic_write(path, "".join(f"{line}\n" for line in lines).encode())


def _known_servers_path(environment: Mapping[str, str]) -> Path:
    return settings_file(environment).absolute().with_name("known_servers")


def _require_known(layout: IndexLayout, places: Places) -> None:
    known = known_servers()
    for part, server in places.servers().items():
        if server not in known:
            raise StateError(
                f"The {part} of index {layout.name!r} is on {server}, which is not a known server.",
                Hint(
                    f"If you trust it, {{}} or add it to ${KNOWN_SERVERS_VARIABLE}; credentials"
                    " of this machine may go there.",
                    f"call mmsearch.trust_index({layout.name!r})",
                    f"run 'mmsearch init {layout.name} --trust'",
                ),
            )


def _read_file(path: Path, max_bytes: int) -> bytes | None:
    try:
        with open_regular_file(path, follow_links=False) as file:
            content = file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except NotRegularError as error:
        raise foreign_file_error(path, error.kind) from error
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > max_bytes:
        raise UsageError(f"{path} is larger than {max_bytes:,} bytes.", "Fix or remove it.")
    return content


def _parse(path: Path, content: bytes) -> Places:
    import tomllib  # noqa: PLC0415 - most indexes have no such file

    try:
        values = tomllib.loads(content.decode())
    # ValueError: invalid TOML, invalid UTF-8, or a number with thousands of digits.
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML.", "Fix it, or take it from a backup.") from error
    for name, value in values.items():
        if name not in (*PARTS, "id"):
            raise UsageError(
                f"{path} names {name[:60]!r}, which is not a part of an index.",
                f"Known: {', '.join(PARTS)}.",
            )
        if not isinstance(value, str):
            raise UsageError(f"{path}: {name} is not a string.", "Correct it.")
    return Places(**values)


def _check_url(part: str, url: str) -> None:
    """Raise a UsageError if a URL is not allowed; the message does not quote secrets."""
    example = f"Give one such as {_EXAMPLES[part]}."
    try:
        split = urlsplit(url)
        # A port that is not a number raises when it is read.
        is_valid = bool(_ALLOWED_CHARS.fullmatch(url) and split.scheme) and split.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or len(url) > MAX_URL_CHARS:
        raise UsageError(f"The URL of the {part} is malformed.", example)
    if "@" in split.netloc and ":" in split.netloc.rpartition("@")[0]:
        raise _secret_error(part, "a password")
    if split.scheme.lower() not in _SCHEMES[part]:
        raise UsageError(f"{split.scheme[:40]!r} is not a scheme of the {part}.", example)
    _check_query(part, split)
    if split.fragment or "#" in url or {"..", "."} & set(unquote(split.path).split("/")):
        raise UsageError(f"The URL of the {part} is malformed.", example)
    path = split.path.strip("/")
    if part == "store":
        is_valid = bool(split.netloc)
    elif split.scheme == POSTGRESQL:
        has_socket = "host=" in split.query
        is_valid = bool(path) and "/" not in path and bool(split.hostname) != has_socket
        is_valid = is_valid and "," not in split.netloc
    else:
        is_valid = bool(split.hostname and _SCHEMA.fullmatch(path))
    if not is_valid:
        raise UsageError(f"The URL of the {part} is incomplete.", example)


def _check_query(part: str, split: SplitResult) -> None:
    for name, value in _query_values(split):
        if any(word in name.lower() for word in ("password", "token", "secret", "key", "sig")):
            raise _secret_error(part, f"{name[:40]!r}, a secret,")
        is_allowed = split.scheme == POSTGRESQL and (
            (name in _QUERY_VALUES and _QUERY_VALUES[name].fullmatch(value))
            or (name == "schema" and part == "search" and _SCHEMA.fullmatch(value))
        )
        if not is_allowed:
            raise UsageError(
                f"The URL of the {part} has the parameter {name[:40]!r} with a value that is not"
                " allowed.",
                "Allowed for PostgreSQL are schema (only of search), sslmode (require, verify-ca or"
                " verify-full), and host and port of a socket; none elsewhere.",
            )


def _query_values(split: SplitResult) -> Iterator[tuple[str, str]]:
    names = set()
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        yield (name, value) if name not in names else (name, "")
        names.add(name)


def _secret_error(part: str, secret: str) -> UsageError:
    return UsageError(
        f"The URL of the {part} contains {secret}, which would be kept in a file.",
        f"Leave it out, and set {_SECRETS[part]} in the environment.",
    )


def clean_postgres_reason(message: str) -> str:
    """Return the reason in an error of PostgreSQL's client as a clause, without its own prefixes.

    Args:
        message: The message; each address that was tried has some lines.
    """
    lines = [line.strip() for line in message.splitlines()]
    reasons = [line for line in lines if line and not line.startswith("Is the server running")]
    reason = reasons[-1] if reasons else ""
    if reason.startswith(("connection failed: ", "connection to server ")):
        reason = reason.rpartition("failed: ")[2]
    return re.sub(r"^(FATAL: +|fe_sendauth: )", "", reason).rstrip(".?")
