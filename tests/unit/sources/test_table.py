"""Tests of tables: columns, keys, texts, metadata, rows that fail."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import DecodeError, SourceError, UsageError
from mmsearch.core.sources import SourceFailure, SourceItem
from mmsearch.sources import _rows, table
from tests.source_samples import collect_items


def is_picture(name, head):
    raise AssertionError("every row names a picture")


def build(path, **choices):
    return table.build(str(path).encode(), is_picture=is_picture, **choices)


def read_all(path, **choices):
    return collect_items(build(path, **choices))


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def texts_of(item):
    return [(text.kind, text.text, text.language, text.source) for text in item.texts]


def test_table_columns_are_found_by_their_names(folder):
    path = write(
        folder / "t.csv",
        "File Name;Title;Tags;Lang;Price;Code;Note\na.jpg;A barn;red, farm;en;12.50;007;\n",
    )
    items, failures = read_all(path)
    assert failures == {}
    assert texts_of(items[b"a.jpg"]) == [
        ("title", "A barn", "en", "table"),
        ("keywords", "red; farm", None, "table"),
    ]
    assert items[b"a.jpg"].metadata == {"lang": "en", "price": 12.5, "code": "007"}
    assert items[b"a.jpg"].size == 5


def test_table_columns_are_chosen_by_their_names_in_any_case(folder):
    path = write(folder / "t.csv", "Where,What,SKU\na.jpg,a barn,s-1\n")
    items, _ = read_all(path, path_column="where", text_columns=("WHAT",), id_column="sku")
    assert texts_of(items[b"s-1"]) == [("caption", "a barn", None, "table")]
    assert items[b"s-1"].metadata == {"where": "a.jpg"}


def test_table_rows_in_succession_with_one_key_are_one_item(folder):
    path = write(folder / "t.csv", "path,caption\na.jpg,one\na.jpg,two\na.jpg,one\nb.jpg,three\n")
    items, failures = read_all(path)
    assert failures == {}
    assert [text.text for text in items[b"a.jpg"].texts] == ["one", "two"]


def test_table_later_row_with_an_earlier_key_is_a_failure(folder):
    path = write(folder / "t.csv", "path,caption\na.jpg,one\nb.jpg,two\na.jpg,three\n")
    items, failures = read_all(path)
    assert [text.text for text in items[b"a.jpg"].texts] == ["one"]
    assert failures == {b"row 4": "an earlier row has the same path"}


tables = st.lists(
    st.lists(st.tuples(st.sampled_from("klm "), st.sampled_from("ab ")), max_size=5),
    min_size=1,
    max_size=4,
)


def first_rows(tables):
    """Return the place of each key in its first row, and the later rows that have the key."""
    places, later = {}, set()
    for name, rows in tables.items():
        before = ""
        for number, (key, place) in enumerate(rows, 1):
            current = key.strip() if place.strip() else ""
            if current in places and current != before:
                later.add(f"{name if len(tables) > 1 else ''} row {number}".strip().encode())
            elif current:
                places.setdefault(current, place)
            before = current
    return places, later


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name in "ab":
        (folder / name).write_bytes(name.encode())
    return folder


@given(tables, st.randoms(use_true_random=False))
def test_table_first_row_of_a_key_counts_in_any_order_of_parts(module_folder, tables, random):
    tables = {f"{number}.jsonl": rows for number, rows in enumerate(tables)}
    for path in module_folder.glob("*.jsonl"):
        path.unlink()
    for name, rows in tables.items():
        lines = [json.dumps({"sku": key, "path": place}) for key, place in rows]
        write(module_folder / name, "\n".join([*lines, ""]))
    names = f"{{0..{len(tables) - 1}}}.jsonl" if len(tables) > 1 else "0.jsonl"
    try:
        source = build(module_folder / names, path_column="path", id_column="sku")
    except SourceError:
        assert not tables["0.jsonl"]
        return
    parts = list(source.parts())
    random.shuffle(parts)
    found = [item for part in parts for item in source.items(part)]
    items = {item.key.decode(): item.load() for item in found if isinstance(item, SourceItem)}
    places, later = first_rows(tables)
    assert items == {key: place.encode() for key, place in places.items()}
    assert all(source.read(key.encode()) == content for key, content in items.items())
    failures = {item.key: item.reason for item in found if isinstance(item, SourceFailure)}
    assert {key for key, reason in failures.items() if "earlier" in reason} == later


@pytest.mark.parametrize("group_size", [1, 2, 3, 6])
@pytest.mark.parametrize("backwards", [False, True])
def test_table_rows_of_a_key_go_on_in_the_next_row_group(folder, group_size, backwards):
    columns = {
        "path": ["a.jpg", "b.jpg", "b.jpg", "b.jpg", "a.jpg", "b.jpg"],
        "caption": ["one", "two", "three", "four", "five", "six"],
    }
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=group_size)
    source = build(folder / "t.parquet")
    parts = list(source.parts())
    found = [item for part in (parts[::-1] if backwards else parts) for item in source.items(part)]
    items = {item.key: item for item in found if isinstance(item, SourceItem)}
    captions = {key: [text.text for text in item.texts] for key, item in items.items()}
    assert captions == {b"a.jpg": ["one"], b"b.jpg": ["two", "three", "four"]}
    failures = sorted(item.key for item in found if isinstance(item, SourceFailure))
    assert failures == [b"row 5", b"row 6"]
    assert len(found) == 4


def test_table_of_row_groups_is_read_by_one_process(folder, monkeypatch):
    columns = {"path": [name for name in ("a.jpg", "b.jpg") for _ in range(6)], "n": [*range(12)]}
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=2)
    selections = []
    select_rows = _rows.select_rows

    def count(path, selection):
        selections.append(selection.part)
        return select_rows(path, selection)

    monkeypatch.setattr(_rows, "select_rows", count)
    source = build(folder / "t.parquet")
    parts = list(source.parts())
    assert len(parts) == 6
    found = {part.key: [item.key for item in source.items(part)] for part in parts}
    assert found == {
        b"#0": [b"a.jpg"],
        b"#1": [],
        b"#2": [],
        b"#3": [b"b.jpg"],
        b"#4": [],
        b"#5": [],
    }
    assert selections == [0]
    # Parts that are passed over are read for their keys.
    assert [item.key for item in source.items(parts[3])] == [b"b.jpg"]
    assert selections == [0, 0, 1, 2, 3]


def test_table_damage_behind_a_row_group_does_not_concern_it(folder):
    columns = {"path": ["a.jpg"] * 2 + ["b.jpg"] * 2, "n": list(range(4))}
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2, compression="none")
    group = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    offset = group.dictionary_page_offset or group.data_page_offset
    content[offset : offset + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(content)
    source = build(path)
    first, second = source.parts()
    assert [item.key for item in source.items(first)] == [b"a.jpg"]
    (failure,) = source.items(second)
    assert (failure.key, failure.ends_part) == (b"", True)


def test_table_stamp_of_a_part_changes_with_the_tables_before_it(folder):
    for number in range(3):
        write(folder / f"{number}.csv", f"url\nhttp://a.example/{number}.jpg\n")

    def stamps():
        source = build(folder / "{0..2}.csv")
        try:
            return [part.stamp for part in source.parts()]
        finally:
            source.close()

    before = stamps()
    assert len(set(before)) == 3
    write(folder / "1.csv", "url\nhttp://a.example/other.jpg\n")
    after = stamps()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]


def test_table_rows_that_are_not_valid_fail_alone(folder):
    rows = [
        '{"path": "a.jpg"}',
        "{",
        "[1]",
        '{"caption": "x"}',
        '{"path": ["a"]}',
        '{"path": "b.jpg"}',
    ]
    items, failures = read_all(write(folder / "t.jsonl", "\n".join(rows)))
    assert sorted(items) == [b"a.jpg", b"b.jpg"]
    assert list(failures) == [b"row %d" % number for number in (2, 3, 4, 5)]
    assert failures[b"row 4"] == "the row has no path"


def test_table_json_values_keep_their_types(folder):
    row = {"path": "a.jpg", "n": 1, "x": 1.5, "s": "2", "l": [1], "d": {"a": None}, "z": None}
    items, _ = read_all(write(folder / "t.jsonl", json.dumps(row)))
    assert items[b"a.jpg"].metadata == {"n": 1, "x": 1.5, "s": 2, "l": [1], "d": {"a": None}}


def test_table_list_has_one_entry_a_line(folder):
    items, _ = read_all(write(folder / "t.txt", "a.jpg\n\n  b.jpg \n"))
    assert sorted(items) == [b"a.jpg", b"b.jpg"]


def test_table_missing_files_are_failures_that_exist_tells(folder):
    source = build(write(folder / "t.csv", "path\na.jpg\nmissing.jpg\n"))
    (part,) = source.parts()
    item, failure = source.items(part)
    assert (item.key, failure.reason) == (b"a.jpg", "no such file or directory")
    assert source.exists(b"a.jpg")
    assert source.exists(b"missing.jpg") is False
    with pytest.raises(DecodeError, match="no such file"):
        source.read(b"missing.jpg")


@pytest.mark.parametrize(
    "place", ["../secret.jpg", "/etc/passwd", "b/../../secret.jpg", "link.jpg", "linked/secret.jpg"]
)
def test_table_path_outside_of_the_base_is_never_read(tmp_path, place):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "linked").symlink_to(tmp_path)
    source = build(write(folder / "t.csv", f"path\n{place}\n"))
    (part,) = source.parts()
    (found,) = source.items(part)
    if isinstance(found, SourceItem):
        with pytest.raises(DecodeError, match="lies outside of"):
            found.load()
    else:
        assert found.reason == f"it lies outside of {folder}"
    with pytest.raises(DecodeError, match="lies outside of"):
        source.read(place.encode())


def test_table_base_is_where_paths_start(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = write(elsewhere / "t.csv", f"path\na.jpg\n{folder}/b.jpg\n")
    items, failures = read_all(path, base=folder)
    assert [item.load() for item in items.values()] == [b"a.jpg", b"b.jpg"]
    assert failures == {}
    assert len(read_all(path)[1]) == 2


@pytest.mark.parametrize("place", ["http://a.example/a.jpg", "file:///etc/passwd", "s3://b/c.jpg"])
def test_table_of_paths_refuses_urls(folder, place):
    _, failures = read_all(write(folder / "t.csv", f"path\n{place}\n"))
    assert failures == {place.encode(): "it is a URL, but the column has paths"}


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file:///etc/passwd", "it is not an http or https URL without a password"),
        ("http://u:p@a.example/", "it is not an http or https URL without a password"),
        ("/etc/passwd", "it is not an http or https URL without a password"),
        ("http://127.0.0.1/a.jpg", "the address of its server is not public"),
        ("http://[::1]/a.jpg", "the address of its server is not public"),
        ("http://8.8.8.8:22/a.jpg", "port 22 is not one of a public web server"),
    ],
)
def test_table_url_that_is_not_public_is_never_fetched(folder, place, reason, socket_enabled):
    items, _ = read_all(write(folder / "t.csv", f"url\n{place}\n"))
    source = build(folder / "t.csv")
    with pytest.raises(DecodeError, match=reason):
        source.read(place.encode())
    source.close()
    with pytest.raises(DecodeError, match="closed"):
        items[place.encode()].load()


def test_table_parquet_part_is_a_row_group_with_types(folder):
    columns = {"path": ["a.jpg", "b.jpg"], "n": [1, 2], "thumb": [b"\xff\x00", b"\xff"]}
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=1)
    source = build(folder / "t.parquet")
    assert [part.key for part in source.parts()] == [b"#0", b"#1"]
    items, _ = read_all(folder / "t.parquet")
    assert {key: item.metadata for key, item in items.items()} == {
        b"a.jpg": {"n": 1},
        b"b.jpg": {"n": 2},
    }


@pytest.mark.parametrize(
    ("name", "text", "choices", "message"),
    [
        ("t.csv", "", {}, "has no header"),
        ("t.csv", "a,b\n1,2\n", {}, "has no column with paths or URLs; its columns are a, b"),
        (
            "t.csv",
            "path\na.jpg\n",
            {"id_column": "sku"},
            "has no column 'sku'; its columns are path",
        ),
        ("t.csv", "path\na.jpg\n", {"text_columns": ("x",)}, "has no column 'x'"),
        ("t.jsonl", "", {}, "has no rows"),
        ("t.jsonl", "{", {}, "line 1 is not JSON"),
        ("t.parquet", "PAR1 not at all", {}, "is not a Parquet file, or is damaged"),
        ("t.xlsx", "x", {}, "not a table in a supported format"),
        ("t.csv", "PK\3\4", {}, "is a workbook"),
    ],
)
def test_table_that_cannot_be_read_is_a_source_error(tmp_path, name, text, choices, message):
    with pytest.raises(SourceError, match=message) as error:
        build(write(tmp_path / name, text), **choices)
    assert error.value.hint or "JSON" in message


@pytest.mark.parametrize(
    "choices",
    [{"url_column": "a", "path_column": "b"}, {"max_mb": 0.0}, {"tries": 0}, {"timeout_s": -1.0}],
)
def test_table_choices_that_are_not_valid_are_usage_errors(folder, choices):
    with pytest.raises(UsageError):
        build(write(folder / "t.csv", "path\na.jpg\n"), **choices)


def test_table_that_breaks_off_ends_its_part(folder):
    text = 'path,caption\na.jpg,one\nb.jpg,"two\n' + "x\n" * 20
    source = build(write(folder / "t.csv", text))
    (part,) = source.parts()
    *items, last = source.items(part)
    assert [item.key for item in items] == [b"a.jpg"]
    assert last.ends_part
    assert "quotation mark is not closed" in last.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_table_without_permission_is_a_source_error(folder):
    path = write(folder / "t.csv", "path\na.jpg\n")
    path.chmod(0)
    with pytest.raises(SourceError, match="permission denied"):
        build(path)


@pytest.mark.parametrize("beside", ["00000.tar", "00000"])
def test_table_of_img2dataset_points_to_the_pictures_beside_it(folder, beside):
    columns = {"url": ["http://a.example/a.jpg"], "key": ["0000"], "status": ["success"]}
    pq.write_table(pa.table(columns), folder / "00000.parquet")
    build(folder / "00000.parquet").close()
    (folder / beside).mkdir()
    with pytest.raises(SourceError, match="are downloaded"):
        build(folder / "00000.parquet")
    build(folder / "00000.parquet", url_column="url").close()


def test_table_that_goes_away_cannot_be_listed(folder):
    path = write(folder / "t.csv", "path\na.jpg\n")
    source = build(path)
    assert [part.stamp for part in source.parts()] == [b""]
    path.unlink()
    with pytest.raises(SourceError, match="no such file"):
        list(source.parts())
