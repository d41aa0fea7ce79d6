import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import DamagedFileError, MMSearchError, StateError, UsageError
from mmsearch.storage import places as module
from mmsearch.storage.layout import IndexLayout, list_index_names
from mmsearch.storage.places import (
    Places,
    clean_postgres_reason,
    describe_places,
    known_servers,
    read_places,
    remember_servers,
    server_of,
    write_places,
)

CATALOG = "postgresql+psycopg://me@db.example/pictures"
STORE = "s3://bucket/indexes/photos"
SEARCH = "milvus+https://search.example:19530/photos"
ALL = Places(CATALOG, STORE, SEARCH)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "settings" / "settings.toml"))
    monkeypatch.delenv("MMSEARCH_KNOWN_SERVERS", raising=False)


@pytest.fixture
def layout(tmp_path):
    layout = IndexLayout.for_name(tmp_path / "home", "photos")
    layout.create()
    return layout


def test_read_places_without_file_returns_folder(layout):
    assert read_places(layout) == Places() == Places(None, None, None)
    assert Places().urls() == {}
    assert read_places(IndexLayout(layout.folder / "nowhere")) == Places()


@pytest.mark.parametrize(
    "places",
    [
        ALL,
        Places(store=STORE),
        Places(search="postgresql+psycopg://me@db.example:5432/pictures?schema=photos"),
        Places(catalog="postgresql+psycopg://me@/pictures?host=/run/postgresql&port=5433"),
        Places(catalog="postgresql+psycopg:///pictures?host=%2Frun%2Fpostgresql"),
        Places(catalog="postgresql+psycopg://me@[::1]:5432/pictures?sslmode=verify-full"),
        Places(store="abfs://container@account.dfs.core.windows.net/photos"),
        Places(store="sftp://me@host/folder"),
        Places(store="gs://bucket"),
        Places(store="gs://bucket", id="0123456789abcdef" * 2),
    ],
)
def test_write_places_round_trips(layout, places):
    write_places(layout, places)
    assert read_places(layout) == describe_places(layout) == places


def test_write_places_writes_one_line_for_each_part(layout):
    write_places(layout, Places(store=STORE))
    lines = layout.places.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert lines[1:] == [f'store = "{STORE}"']


@pytest.mark.parametrize(
    ("part", "url", "variable"),
    [
        ("catalog", "postgresql+psycopg://me:pa55@db/pictures", "MMSEARCH_CATALOG_PASSWORD"),
        ("catalog", "postgresql+psycopg://me:@db/pictures", "MMSEARCH_CATALOG_PASSWORD"),
        ("catalog", "postgresql+psycopg://me@db/pictures?password=pa55", "CATALOG_PASSWORD"),
        ("store", "s3://AKIA:pa55@bucket/prefix", "AWS_SECRET_ACCESS_KEY"),
        ("store", "s3://bucket/prefix?X-Amz-Signature=pa55", "AWS_SECRET_ACCESS_KEY"),
        ("search", "milvus+https://root:pa55@host:19530/photos", "MMSEARCH_SEARCH_PASSWORD"),
        ("search", "milvus+https://host:19530/photos?token=pa55", "MMSEARCH_SEARCH_TOKEN"),
        ("search", "postgresql+psycopg://me:pa55@db/pictures", "MMSEARCH_SEARCH_PASSWORD"),
    ],
)
def test_places_refuse_secrets_and_name_the_variable(part, url, variable):
    with pytest.raises(UsageError, match=variable) as raised:
        Places(**{part: url})
    assert "pa55" not in str(raised.value)


@pytest.mark.parametrize(
    ("part", "url"),
    [
        ("catalog", "sqlite:///x.sqlite"),
        ("catalog", "postgresql://me@db/pictures"),
        ("catalog", "s3://bucket"),
        ("store", "/srv/indexes"),
        ("store", "file:///srv/indexes"),
        ("store", "https://host/prefix"),
        ("store", "simplecache::s3://bucket"),
        ("store", "postgresql+psycopg://me@db/pictures"),
        ("search", "http://host:19530/photos"),
        ("search", "memory://photos"),
    ],
)
def test_places_refuse_other_schemes(part, url):
    with pytest.raises(UsageError, match=rf"{part}|scheme"):
        Places(**{part: url})


@pytest.mark.parametrize(
    ("part", "url"),
    [
        ("catalog", ""),
        ("catalog", "postgresql+psycopg://me@db"),
        ("catalog", "postgresql+psycopg://me@db/"),
        ("catalog", "postgresql+psycopg:///pictures"),
        ("catalog", "postgresql+psycopg://me@db:port/pictures"),
        ("catalog", "postgresql+psycopg://me@db:0/pictures"),
        ("catalog", "postgresql+psycopg://me@db/pictures\n"),
        ("catalog", "postgresql+psycopg://me@db/pict ures"),
        ("catalog", "postgresql+psycopg://me@[db/pictures"),
        ("catalog", "postgresql+psycopg://me@dbé/pictures"),
        ("catalog", "postgresql+psycopg://me@db,evil/pictures"),
        ("catalog", "postgresql+psycopg://me@db/pictures#x"),
        ("store", "s3://"),
        ("store", "s3:///prefix"),
        ("store", "s3://bucket/../other"),
        ("store", "s3://bucket/%2e%2e/other"),
        ("store", "s3://bucket/" + "x" * 1_000),
        ("store", "s3://bucket/a\\b"),
        ("search", "milvus+http://host:19530/"),
        ("search", "milvus+http://host:19530/a-b"),
        ("search", "milvus+http:///photos"),
    ],
)
def test_places_refuse_malformed_and_incomplete_urls(part, url):
    with pytest.raises(UsageError, match=part):
        Places(**{part: url})


@pytest.mark.parametrize(
    "query",
    [
        "host=evil.example",
        "hostaddr=203.0.113.1",
        "host=/run,evil.example",
        "host=/run&host=evil.example",
        "service=evil",
        "passfile=/tmp/x",
        "sslmode=disable",
        "options=-c%20search_path%3Devil",
        "schema=photos",
        "port=x",
    ],
)
def test_places_refuse_parameters_that_lead_elsewhere(query):
    host = "" if query.startswith("host=/") else "db"
    with pytest.raises(UsageError, match=r"parameter|incomplete"):
        Places(catalog=f"postgresql+psycopg://me@{host}/pictures?{query}")


def test_places_refuse_another_type():
    with pytest.raises(UsageError, match="store"):
        Places(store=5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'stores = "s3://bucket"', "'stores', which is not a part"),
        (b"store = 5", "store is not a string"),
        (b'store = ["s3://bucket"]', "store is not a string"),
        (b"store = ", "not TOML"),
        (b'id = "../x"', "32 hexadecimal digits"),
        (b"\xff", "not TOML"),
        (b"x = " + b"[" * 5_000, "not TOML"),
        (b"#" * 10_001, "larger than"),
        (b'catalog = "postgresql+psycopg://me:pa55@db/x"', "a password"),
    ],
)
def test_read_places_refuses_invalid_file(layout, content, message):
    layout.places.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_places(layout)


def test_read_places_refuses_link_folder_and_fifo(layout, tmp_path):
    (tmp_path / "secret").write_text(f'store = "{STORE}"')
    layout.places.symlink_to(tmp_path / "secret")
    for refuse in (read_places, describe_places, IndexLayout.reject_links):
        with pytest.raises(DamagedFileError, match="a link"):
            refuse(layout)
    layout.places.unlink()
    layout.places.mkdir()
    with pytest.raises(DamagedFileError, match="a folder"):
        read_places(layout)
    layout.places.rmdir()
    os.mkfifo(layout.places)
    with pytest.raises(DamagedFileError, match="a named pipe"):
        read_places(layout)


def test_read_places_refuses_server_that_the_user_has_not_named(layout, tmp_path, monkeypatch):
    write_places(layout, ALL)
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "other machine" / "settings.toml"))
    with pytest.raises(StateError, match=r"catalog.*postgresql\+psycopg://me@db.example"):
        read_places(layout)
    assert describe_places(layout) == ALL
    remember_servers(Places(catalog=CATALOG, store=STORE))
    with pytest.raises(StateError, match=r"search.*milvus\+https://search.example:19530"):
        read_places(layout)
    remember_servers(Places(search=SEARCH))
    assert read_places(layout) == ALL


def test_known_servers_come_from_the_environment_too(layout, tmp_path, monkeypatch):
    write_places(layout, ALL)
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "container" / "settings.toml"))
    monkeypatch.setenv(
        "MMSEARCH_KNOWN_SERVERS", f"{CATALOG} s3://bucket milvus+https://search.example:19530"
    )
    assert read_places(layout) == ALL
    monkeypatch.setenv("MMSEARCH_KNOWN_SERVERS", "s3://[")
    with pytest.raises(UsageError, match="known servers"):
        read_places(layout)


def test_known_server_is_another_with_another_user_port_bucket_or_socket():
    urls = [
        "postgresql+psycopg://me@db.example/pictures",
        "postgresql+psycopg://you@db.example/pictures",
        "postgresql+psycopg://me@db.example:5433/pictures",
        "postgresql+psycopg://me@/pictures?host=/run/postgresql",
        "postgresql+psycopg://me@/pictures?host=/tmp",
        "postgresql+psycopg://me@/pictures?host=/tmp&port=5433",
        "milvus+http://db.example:19530/a",
        "milvus+https://db.example:19530/a",
        "s3://bucket/a",
        "s3://other/a",
    ]
    assert len({server_of(url) for url in urls}) == len(urls)
    assert server_of("s3://Bucket/a") == server_of("S3://bucket/b/c")
    assert all(server_of(server_of(url)) == server_of(url) for url in urls)


def test_remember_servers_keeps_others_and_is_private(tmp_path):
    remember_servers(Places(store="s3://one/a"))
    remember_servers(Places(store="s3://two/a"))
    remember_servers(Places(store="s3://two/b"))
    assert known_servers() == {"s3://one", "s3://two"}
    path = tmp_path / "settings" / "known_servers"
    assert path.read_text() == "s3://one\ns3://two\n"
    assert path.parent.stat().st_mode & 0o077 == 0


def test_index_exists_with_a_catalog_at_a_url(layout):
    assert not layout.exists()
    write_places(layout, Places(store=STORE))
    assert not layout.exists()
    assert list_index_names(layout.folder.parent) == []
    write_places(layout, Places(catalog=CATALOG))
    assert layout.exists()
    assert list_index_names(layout.folder.parent) == ["photos"]
    layout.places.write_bytes(b"catalog")
    assert layout.exists()


@given(st.text(max_size=60))
def test_places_of_any_text_are_places_or_an_error(text):
    for part in ("catalog", "store", "search"):
        for prefix in ("", "s3://", "postgresql+psycopg://", "milvus+http://"):
            try:
                url = Places(**{part: prefix + text}).urls()[part]
            except MMSearchError:
                continue
            assert server_of(url)
            assert module.server_of(server_of(url)) == server_of(url)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection'
            " refused\n\tIs the server running on that host and accepting TCP/IP connections?",
            "Connection refused",
        ),
        (
            'connection failed: connection to server at "::1", port 5432 failed: FATAL:  database'
            ' "nodb" does not exist',
            'database "nodb" does not exist',
        ),
        (
            'connection to server at "a", port 1 failed: fe_sendauth: no password supplied',
            "no password supplied",
        ),
        ("failed to resolve host 'a': [Errno -2] Name not known", None),
        ("the connection is closed", None),
        ("", ""),
    ],
)
def test_reasons_of_postgresql_lose_the_prefixes_of_its_client(message, reason):
    assert clean_postgres_reason(message) == (message if reason is None else reason)
