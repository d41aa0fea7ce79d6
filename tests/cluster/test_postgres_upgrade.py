"""A catalog of an older schema in PostgreSQL gets the newest one, and writes what others write."""

from contextlib import closing

import pytest

from mmsearch.core.errors import SchemaError
from mmsearch.core.records import CaptionTableTexts, FileRef, IndexedFile, Segment, ShardCommit
from mmsearch.core.types import Metadata, Text
from tests.cluster import services
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, indexed, picture, seen
from tests.unit.catalog.test_bulk import make_catalog, make_shard

pytestmark = services.MARKS
OLD = 14
"""Number of a schema without duplicates, suggestions and perceptual hashes."""

_STRUCTURE = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity"
    " FROM information_schema.columns WHERE table_schema = current_schema()",
    "SELECT tablename, replace(indexdef, quote_ident(schemaname), '') FROM pg_indexes"
    " WHERE schemaname = current_schema()",
    "SELECT CAST(conrelid AS regclass), pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = CAST(CAST(current_schema() AS TEXT) AS regnamespace)",
    "SELECT CAST(tgrelid AS regclass), tgname, tgtype, tgenabled, tgoldtable, tgnewtable"
    " FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal"
    " AND relnamespace = CAST(CAST(current_schema() AS TEXT) AS regnamespace)",
    "SELECT proname, prosrc, proconfig FROM pg_proc"
    " WHERE pronamespace = CAST(CAST(current_schema() AS TEXT) AS regnamespace)",
)


@pytest.fixture(scope="module")
def server(start_service):
    return start_service("postgres")


@pytest.fixture
def place_of(server, tmp_path, monkeypatch):
    from mmsearch.catalog.postgres import parse_url

    monkeypatch.setenv("PGPASSWORD", server["POSTGRES_PASSWORD"])

    def place_of(name):
        schema = f"{tmp_path.name}_{name}"
        return parse_url(f"{server['POSTGRES_URL']}?schema={schema}", tmp_path / "catalog.sqlite")

    return place_of


def query(place, statement, parameters=()):
    from mmsearch.catalog.postgres import connect

    with connect(place) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else []


def structure_of(place):
    return [set(map(repr, query(place, statement))) for statement in _STRUCTURE]


def write_old(place):
    """Write a schema without revisions, with a picture and its caption."""
    from mmsearch.catalog import postgres_schema
    from mmsearch.catalog.postgres import connect

    statements = [
        f'CREATE SCHEMA "{place.schema}"',
        *postgres_schema._statements(None, OLD),
        "DROP TABLE stems, counted_texts, uncounted_texts",
        *(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS TRIGGER LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'"
            for name in ("texts_inserted", "texts_deleted", "assets_inserted")
        ),
        "ALTER TABLE schema_version DROP COLUMN revision",
        f"INSERT INTO schema_version VALUES ({OLD})",  # noqa: S608 - our names
        "INSERT INTO sources (kind, name, uri, choices)"
        " VALUES ('folder', 'photos', '/photos', '{}')",
        "INSERT INTO contents (digest, kind, asset_count) VALUES (sha256('a'), 'image', 1)",
        "INSERT INTO items (content_id, is_live, width, height, format)"
        " VALUES (1, 1, 640, 480, 'JPEG')",
        "INSERT INTO assets (source_id, key, size, mtime_ns, checked_ns, digest, content_id)"
        " VALUES (1, 'a.jpg', 100, 7, 1, sha256('a'), 1)",
        "INSERT INTO texts (item_id, kind, source, text, words) VALUES (1, 'caption', 'metadata',"
        " 'a lighthouse', to_tsvector('mmsearch_words', 'a lighthouse'))",
        "INSERT INTO segments (name, bytes, sha256, rows, dim, space_id)"
        " VALUES ('segments/000001.vectors', 1000, repeat('0', 64), 1, 8, 1)",
        "INSERT INTO embeddings (item_id, space_id, segment, texts_digest) VALUES (1, 1, 1, '')",
    ]
    with connect(place) as connection:
        for statement in statements:
            connection.execute(statement)


def test_older_schema_gets_all_that_a_new_one_has_and_keeps_its_rows(place_of):
    from mmsearch.catalog.postgres_maintenance import open_postgres_reader, open_postgres_writer

    old, new = place_of("old"), place_of("new")
    write_old(old)
    open_postgres_writer(new, create=True).close()
    assert structure_of(old) != structure_of(new)
    with pytest.raises(SchemaError, match="of an older mmsearch") as caught:
        open_postgres_reader(old)
    assert "status" in str(caught.value.hint)
    with closing(open_postgres_writer(old)) as catalog:
        assert structure_of(old) == structure_of(new)
        catalog.set_identity(IDENTITY)
        root, _ = catalog.ensure_root(b"/photos")
        catalog.commit_shard(indexed(root, {b"b.jpg": "a"}))
        assert list(catalog.find_problems()) == []
    with closing(open_postgres_reader(old)) as catalog, catalog.snapshot() as snapshot:
        (record,) = snapshot.records([1])
        assert set(record.paths) == {b"/photos/a.jpg", b"/photos/b.jpg"}
        assert snapshot.closest_word("lighthose") == "lighthouse"


def test_upgrade_that_fails_changes_nothing(place_of, monkeypatch):
    from mmsearch.catalog import postgres_schema
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    old = place_of("old")
    write_old(old)
    before = structure_of(old)
    real = postgres_schema._statements

    def fail(version):
        yield from real(version)
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "_statements", fail)
        with pytest.raises(OSError):  # noqa: PT011
            open_postgres_writer(old)
    assert structure_of(old) == before
    assert query(old, "SELECT * FROM schema_version") == [(OLD,)]
    open_postgres_writer(old).close()


@pytest.mark.parametrize("column", ["version", "revision"])
def test_newer_schema_is_refused(place_of, column):
    from mmsearch.catalog.postgres_maintenance import open_postgres_reader, open_postgres_writer

    place = place_of("newer")
    open_postgres_writer(place, create=True).close()
    query(place, f"UPDATE schema_version SET {column} = {column} + 1")  # noqa: S608
    for open_it in (open_postgres_reader, open_postgres_writer):
        with pytest.raises(SchemaError, match="of a newer mmsearch") as caught:
            open_it(place)
        assert caught.value.hint == "Upgrade mmsearch."


def test_server_knows_at_once_how_large_a_growing_catalog_is(place_of):
    """Plans for tables of a few rows read a whole table for each shard."""
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    place = place_of("grown")
    with closing(open_postgres_writer(place, create=True)) as catalog:
        root, _ = catalog.ensure_root(b"/photos")
        for _ in range(3):
            files = {b"%d.jpg" % number: f"{number}" for number in range(*next_numbers(catalog))}
            catalog.commit_shard(encoded(catalog, root, files))
        known = dict(query(place, "SELECT relname, reltuples FROM pg_class"))
        assert min(known[name] for name in ("contents", "items", "assets", "embeddings")) >= 1200


def next_numbers(catalog):
    first = catalog.next_free_ids()[0]
    return first, first + 600


def dump(place):
    """Return the rows of all tables, without times and what was counted when."""
    from mmsearch.catalog.tables import METADATA

    columns = {name: ", ".join(table.columns.keys()) for name, table in METADATA.tables.items()}
    rows = {
        name: sorted(map(repr, query(place, f"SELECT {columns[name]} FROM {name}")))  # noqa: S608
        for name in columns
        if name not in ("settings", "generations", "runs")
    }
    return rows | {"words": query(place, "SELECT id, words, spaceless_text FROM texts ORDER BY 1")}


def make_parts():
    """Return files and pictures of a shard: copies, moments of a film, texts of all kinds."""
    captions = CaptionTableTexts(b"/t.csv", [Text("caption", "a red car", source="table")])
    facts = Metadata(taken_at="2020-05-17T10:11:12", taken_from="xmp", rating=3)
    words = [Text("keywords", "sea; Sun; sea", source="sidecar"), Text("caption", "東京の夜", "ja")]
    files = [
        {"digest": digest_of("0"), "texts": words[:1], "texts_key": b"key"},
        {"digest": digest_of("1"), "table": captions, "part": b"part", "stamp": b"stamp"},
        {"digest": digest_of("2"), "texts": words, "overrides": facts, "metadata": {"price": 3}},
        {"digest": digest_of("2"), "fallbacks": facts},
        {"digest": digest_of("9"), "texts": words, "table": captions},
        {"digest": digest_of("3")},
    ]
    pictures = [(2, 0, tuple(words)), (3, 0, ()), (4, 0, (words[0],))]
    pictures += [(9, part, (words[1],) if part == 1 else ()) for part in range(3)]
    return files, pictures


@pytest.mark.parametrize("is_records", [False, True])
def test_shard_of_new_pictures_gets_the_same_rows_in_each_way(place_of, is_records):
    from mmsearch.catalog.postgres_maintenance import PostgresMaintenance, open_postgres_writer

    files, pictures = make_parts()
    real, choices, dumps = PostgresMaintenance._is_new, [], []

    def refuse(catalog, db, shard):
        choices.append(real(catalog, db, shard))
        return False

    for method in ("commit_shard", "commit_new"):
        place = place_of(method)
        catalog, sources = make_catalog(place, open_postgres_writer)
        with closing(catalog), pytest.MonkeyPatch.context() as patch:
            shard = make_shard(catalog, sources[is_records], files, pictures)
            patch.setattr(PostgresMaintenance, "_is_new", refuse)
            getattr(catalog, method)(shard)
            assert list(catalog.find_problems()) == []
        dumps.append(dump(place))
    # Without the refusal, both ways are one.
    assert choices == [True]
    assert dumps[0] == dumps[1]


def test_counted_stems_equal_those_of_all_texts(place_of):
    from mmsearch.catalog.dialects import POSTGRES
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    def check():
        counted = query(place, f"SELECT term, doc FROM {POSTGRES.stems} ORDER BY 1")  # noqa: S608
        assert counted == query(
            place,
            "SELECT word, ndoc FROM ts_stat('SELECT words FROM texts') ORDER BY word COLLATE \"C\"",
        )
        return dict(counted)

    def write(number, *captions):
        item_id, segment_number = catalog.reserve_ids(len(captions), 1)
        names = [f"{number} {place}" for place in range(len(captions))]
        pictures = [
            picture(item_id + place, name, ("caption", caption))
            for place, (name, caption) in enumerate(zip(names, captions, strict=True))
        ]
        file_ref = FileRef(f"segments/{segment_number:06d}.vectors", 1000, f"{number:064x}")
        files = [IndexedFile(seen(name.encode()), digest_of(name)) for name in names]
        segment = Segment(segment_number, file_ref, len(names), 8)
        catalog.commit_shard(ShardCommit(root.id, 1, segment, pictures, files))

    def count():
        run = catalog.begin_run()
        catalog.finish_run(run, "finished", {})

    place = place_of("stems")
    with closing(open_postgres_writer(place, create=True)) as catalog:
        root, _ = catalog.ensure_root(b"/photos")
        write(0, "red cars", "a car by the sea")
        assert check()["car"] == 2
        count()
        assert query(place, "SELECT term, doc FROM stems WHERE term = 'car'") == [("car", 2)]
        write(1, "the sea and a car", "sea lions")
        assert check()["car"] == 3
        query(place, "DELETE FROM texts WHERE text = 'red cars' OR text = 'sea lions'")
        assert "red" not in check()
        # The id of the last text is used again.
        write(2, "a lion in the grass")
        check()
        count()
        assert query(place, "SELECT count(*) FROM uncounted_texts") == [(0,)]
        check()
        query(place, "DELETE FROM texts WHERE id = (SELECT max(id) FROM texts)")
        write(3, "red grass")
        assert check()["grass"] == 1
        count()
        check()
        catalog.rebuild_derived()
        check()
