"""Texts beside pictures, in their names and in tables."""

import json
import os
import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.records import ScannedFile, Sidecar
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts import collect_texts
from mmsearch.modalities._texts.caption_table import read_captions
from mmsearch.modalities._texts.filename import make_filename_texts
from mmsearch.modalities._texts.sidecar import MAX_BYTES, find_sidecars, read_sidecar
from mmsearch.modalities._texts.xmp import parse_xmp

XMP = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:exif='http://ns.adobe.com/exif/1.0/'>
 <rdf:Description exif:GPSLatitude='48,51.6N' exif:GPSLongitude='2,21.1W'>
  <dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Harbour</rdf:li></rdf:Alt></dc:title>
  <dc:description><rdf:Alt><rdf:li xml:lang='de'>Boote im Hafen</rdf:li></rdf:Alt></dc:description>
  <dc:subject><rdf:Bag><rdf:li>boats</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description></rdf:RDF></x:xmpmeta>"""


def told(texts):
    return {(text.kind, text.text, text.language) for text in texts}


class TestSidecars:
    def test_they_bear_the_name_of_the_picture_with_or_without_its_ending(self):
        beside = {b"a.jpg", b"a.txt", b"a.jpg.caption", b"a.xmp", b"ab.txt", b"a.md"}
        assert find_sidecars(b"A.jpg", beside) == [b"a.jpg.caption", b"a.txt", b"a.xmp"]

    @pytest.mark.parametrize("suffix", ["txt", "caption"])
    def test_a_plain_text_is_a_caption_on_one_line(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        path.write_text("\ufeffA dog\n  on a beach\n", encoding="utf-8")
        assert told(read_sidecar(os.fsencode(path))) == {("caption", "A dog on a beach", None)}

    def test_json_fields(self, tmp_path):
        path = tmp_path / "a.json"
        fields = {
            "caption": "A dog",
            "Description": ["Wet.", 3, None],
            "title": "IMG_1.JPG",
            "tags": ["beach", "sea"],
            "keywords": "sun, sea",
            "width": 7,
        }
        path.write_text(json.dumps(fields))
        found = read_sidecar(os.fsencode(path))
        assert {("caption", "A dog", None), ("description", "Wet.", None)} <= told(found)
        (words,) = [text.text for text in found if text.kind == "keywords"]
        assert set(re.split("; ?", words)) == {"beach", "sea", "sun"}
        assert not any(text.kind == "title" for text in found)

    def test_json_that_says_nothing(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text("[1, 2]")
        assert read_sidecar(os.fsencode(path)) == ()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.json", b"{"),
            ("a.json", b"[" * 100_000),
            ("a.xmp", b"<x"),
            ("a.txt", b"x" * (MAX_BYTES + 1)),
            ("a.xmp", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        ],
    )
    def test_a_damaged_one_says_why_and_costs_only_itself(self, tmp_path, name, content):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DecodeError):
            read_sidecar(os.fsencode(path))
        file = ScannedFile(b"red_boat.jpg", 1, 1, (Sidecar(os.fsencode(name), 1, 1),))
        found = collect_texts(os.fsencode(tmp_path), file)
        assert [text.kind for text in found.texts] == ["filename"]
        assert [problem.path for problem in found.problems] == [os.fsencode(path)]

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, tmp_path_factory, content):
        path = tmp_path_factory.getbasetemp() / "any"
        for suffix in (".txt", ".json", ".xmp"):
            path.with_suffix(suffix).write_bytes(content)
            with suppress(DecodeError):
                read_sidecar(os.fsencode(path.with_suffix(suffix)))


def test_xmp_that_is_nested_deeply_is_refused():
    for depth in (101, 40_000):
        with pytest.raises(DecodeError, match="nested more than 100 deep"):
            parse_xmp(b"<a>" * depth, TextSource.SIDECAR)
    assert parse_xmp(b"<a>" * 100 + b"</a>" * 100, TextSource.SIDECAR).texts == ()


def test_xmp_has_texts_languages_keywords_and_a_place():
    facts = parse_xmp(XMP.encode(), TextSource.SIDECAR)
    assert {("title", "Harbour", None), ("description", "Boote im Hafen", "de")} <= told(
        facts.texts
    )
    assert "boats" in next(text.text for text in facts.texts if text.kind == "keywords")
    assert facts.latitude == pytest.approx(48.86)
    assert facts.longitude == pytest.approx(-2.351667, abs=1e-5)


class TestNames:
    @pytest.mark.parametrize(
        ("path", "words"),
        [
            (b"red_car-2.jpg", "red car"),
            (b"RedCarInTown.jpg", "Red Car In Town"),
            (b"Italy 2019/Rome/DSC_0001.JPG", "Italy 2019 Rome"),
            (b"DCIM/100CANON/IMG_1234.JPG", None),
            (b"IMG-20200101-WA0003.jpg", None),
            (b"DSC0001 (2).jpg", None),
            (b"PXL_20210504_101112.jpg", None),
            (b"0f3a9c1d2e.jpg", None),
            (b"6b29fc40-ca47-1067-b31d-00dd010662da.png", None),
            (b"Screenshot 2020-01-01 at 10.11.12.png", None),
            (b"1234.jpg", None),
            (b"photos/dog/0001.jpg", "dog"),
            ("caf\u00e9/Z\u00fcrichSee.jpg".encode(), "caf\u00e9 Z\u00fcrich See"),
        ],
    )
    def test_words(self, path, words):
        assert [text.text for text in make_filename_texts(path)] == ([words] if words else [])

    @pytest.mark.parametrize("ending", ["!", "", "o"])
    def test_no_name_takes_more_than_linear_time(self, ending):
        began = time.process_time()
        make_filename_texts(b"img1" + b"mpmm" * 60 + b"pmamhs" * 200 + ending.encode())
        # It takes less than a millisecond; what backtracks takes years.
        assert time.process_time() - began < 5

    @given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
    def test_any_name_gives_words_or_none(self, path):
        for text in make_filename_texts(path):
            assert text.text.strip()
            text.text.encode()


class TestTables:
    @pytest.fixture
    def photos(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a.jpg").touch()
        return folder

    def read(self, table, folder):
        return read_captions(table, os.fsencode(folder))

    @pytest.mark.parametrize("written", ["a.jpg", "photos/a.jpg", "./photos/a.jpg", "{}/a.jpg"])
    def test_paths_of_the_table_of_the_folder_and_absolute_ones(self, photos, written):
        table = photos.parent / "c.csv"
        table.write_text(f"path,caption\n{written.format(photos)},A dog\n/else/b.jpg,No\n")
        assert self.read(table, photos) == {
            b"a.jpg": (Text("caption", "A dog", None, TextSource.TABLE),)
        }

    def test_any_number_of_rows_and_columns_of_a_picture(self, photos):
        table = photos / "c.jsonl"
        rows = [
            {"path": "a.jpg", "caption": "A dog", "lang": "en"},
            {"path": "a.jpg", "caption": "Ein Hund", "lang": "de"},
            {"path": "a.jpg", "caption": "A dog", "lang": "en", "tags": ["wet", "beach"]},
        ]
        table.write_text("\n".join(map(json.dumps, rows)))
        found = self.read(table, photos)[b"a.jpg"]
        assert [(t.kind, t.text, t.language) for t in found][:2] == [
            ("caption", "A dog", "en"),
            ("caption", "Ein Hund", "de"),
        ]
        assert found[2].kind == "keywords"

    def test_parquet(self, photos):
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        table = photos / "c.parquet"
        parquet.write_table(arrow.table({"path": ["a.jpg"], "caption": ["A dog"]}), table)
        assert told(self.read(table, photos)[b"a.jpg"]) == {("caption", "A dog", None)}

    def write_parquet(self, photos, columns, **options):
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        table = photos / "c.parquet"
        parquet.write_table(arrow.table(columns), table, compression="zstd", **options)
        return table

    def test_parquet_of_every_type(self, photos):
        columns = {
            "Path": [b"a.jpg", b"b.jpg", None],
            "caption": [["A dog", "wet"], [], None],
            "language": ["en", None, "de"],
            "other": [1, 2, 3],
        }
        found = self.read(self.write_parquet(photos, columns), photos)
        assert told(found[b"a.jpg"]) == {("caption", "A dog", "en"), ("caption", "wet", "en")}
        assert set(found) == {b"a.jpg"}

    def test_parquet_without_the_columns_names_those_that_it_has(self, photos):
        table = self.write_parquet(photos, {"path": ["a.jpg"], "lang": ["en"], "other": [1]})
        with pytest.raises(SourceError, match="the columns are path, lang, other"):
            self.read(table, photos)

    def test_a_value_that_many_rows_of_parquet_share_takes_no_more_memory(self, photos):
        arrow = pytest.importorskip("pyarrow")
        rows = 10_000
        shared = arrow.DictionaryArray.from_arrays([0] * rows, ["a" * 900_000])
        names = [f"{row}.jpg" for row in range(rows)]
        table = self.write_parquet(photos, {"path": names, "caption": shared})
        assert table.stat().st_size < 100_000
        # Decoded, it would take 9 GB.
        with pytest.raises(SourceError, match=r"grows to more than 1,000 times its size\."):
            self.read(table, photos)

    def test_a_row_of_parquet_that_is_larger_than_memory_is_refused(self, photos):
        arrow = pytest.importorskip("pyarrow")
        values = 300_000
        shared = arrow.DictionaryArray.from_arrays([0] * values, ["a" * 10_000])
        captions = arrow.ListArray.from_arrays([0, values], shared)
        table = self.write_parquet(photos, {"path": ["a.jpg"], "caption": captions})
        assert table.stat().st_size < 10_000
        with pytest.raises(SourceError, match=r"needs more than 1 GiB of memory to be decoded\."):
            self.read(table, photos)

    def test_more_rows_than_a_file_of_its_size_can_hold_are_refused(self, photos):
        arrow = pytest.importorskip("pyarrow")
        rows = 300_000
        columns = {
            name: arrow.DictionaryArray.from_arrays(arrow.repeat(0, rows), ["a"])
            for name in ("path", "caption")
        }
        table = self.write_parquet(photos, columns)
        assert table.stat().st_size < 20_000
        with pytest.raises(SourceError, match=r"grows to more than 1,000 times its size\."):
            self.read(table, photos)

    def test_damaged_parquet_is_refused_whatever_is_damaged(self, photos):
        table = self.write_parquet(
            photos, {"path": ["a.jpg"] * 50, "caption": [f"A dog {at}" for at in range(50)]}
        )
        whole = table.read_bytes()
        for at in range(4, len(whole), len(whole) // 12):
            table.write_bytes(whole[:at] + b"\xff" * 4 + whole[at + 4 :])
            with suppress(SourceError):
                self.read(table, photos)

    @pytest.mark.parametrize(
        ("name", "begin", "piece"),
        [
            ("c.csv", "path,caption\na.jpg,", "a"),
            ("c.csv", "path,caption\na.jpg", ",a"),
            ("c.csv", 'path,caption\na.jpg,"', "a\n"),
            ("c.csv", "path,caption\na.jpg", ',"\n"'),
            ("c.csv", "path,caption", ",a"),
            ("c.jsonl", '{"path": "a.jpg", "caption": "', "a"),
            ("c.jsonl", "", " "),
        ],
    )
    def test_a_row_without_an_end_is_refused_before_it_is_read_whole(
        self, photos, name, begin, piece
    ):
        table = photos / name
        table.write_text(begin + piece * 1_100_000)
        with pytest.raises(SourceError, match=r"line \d+: a row has more than 1,000,000 charac"):
            self.read(table, photos)

    @pytest.mark.parametrize(
        "content",
        [
            "[" * 100_000,
            '{"path": ' * 100_000,
            '{"path": ' + "9" * 5000 + "}",
            '{"path": "a.jpg", "caption": ' + "[" * 100_000,
        ],
    )
    def test_json_lines_nested_deeply_or_with_long_numbers(self, photos, content):
        table = photos / "c.jsonl"
        table.write_text(content)
        with pytest.raises(SourceError, match=r"line 1 is not JSON\."):
            self.read(table, photos)

    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("c.csv", b"name,words\na,b\n", "a path column and a caption column are required"),
            ("c.csv", b"name,words\n", "a path column and a caption column are required"),
            ("c.csv", b"", "has no header"),
            ("c.csv", b"path,caption\na.jpg,caf\xe9\n", "UTF-8"),
            ("c.jsonl", b"{", "line 1 is not JSON"),
            ("c.jsonl", b"3", "not a JSON object"),
            ("c.parquet", b"PAR1", "not a Parquet file"),
            ("c.xls", b"", "not a caption table"),
        ],
    )
    def test_what_is_no_table_is_refused_by_name(self, photos, name, content, complaint):
        table = photos / name
        table.write_bytes(content)
        with pytest.raises(SourceError, match=complaint):
            self.read(table, photos)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("c.csv", "path,caption\n"),
            ("c.csv", "path,caption\na.jpg,\na.jpg,  \n,a dog\n"),
            ("c.tsv", "path\tcaption\na.jpg\t-\n"),
            ("c.jsonl", ""),
            ("c.jsonl", '{"path": "a.jpg", "caption": ""}\n{"path": "a.jpg", "caption": null}'),
        ],
    )
    def test_an_empty_cell_is_no_caption(self, photos, name, content):
        table = photos / name
        table.write_text(content)
        assert not self.read(table, photos).get(b"a.jpg")

    def test_a_table_that_is_not_there(self, photos):
        with pytest.raises(SourceError, match=r"none\.csv cannot be read"):
            self.read(photos / "none.csv", photos)
