"""Texts in sidecar files, in file names and in tables."""

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
from mmsearch.core.types import Metadata, Text, TextSource
from mmsearch.modalities._texts import collect_texts
from mmsearch.modalities._texts.caption_table import read_captions
from mmsearch.modalities._texts.filenames import make_filename_texts
from mmsearch.modalities._texts.pairing import pair_sidecars
from mmsearch.modalities._texts.sidecars import MAX_SIDECAR_BYTES, read_sidecar
from mmsearch.modalities._texts.xmp import parse_xmp_sidecar

XMP = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:exif='http://ns.adobe.com/exif/1.0/'>
 <rdf:Description exif:GPSLatitude='48,51.6N' exif:GPSLongitude='2,21.1W'>
  <dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Harbour</rdf:li></rdf:Alt></dc:title>
  <dc:description><rdf:Alt><rdf:li xml:lang='de'>Boote im Hafen</rdf:li></rdf:Alt></dc:description>
  <dc:subject><rdf:Bag><rdf:li>boats</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description></rdf:RDF></x:xmpmeta>"""


def texts_of(texts):
    return {(text.kind, text.text, text.language) for text in texts}


class TestSidecars:
    def test_pair_sidecars_matches_picture_name_with_or_without_suffix(self):
        beside = {b"a.txt", b"a.jpg.caption", b"a.xmp", b"ab.txt"}
        paired = pair_sidecars([b"A.jpg"], beside)
        assert sorted(paired[b"A.jpg"]) == [b"a.jpg.caption", b"a.txt", b"a.xmp"]

    @pytest.mark.parametrize("suffix", ["txt", "caption"])
    def test_read_sidecar_plain_text_returns_one_line_caption(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        path.write_text("\ufeffA dog\n  on a beach\n", encoding="utf-8")
        assert texts_of(read_sidecar(os.fsencode(path)).metadata.texts) == {
            ("caption", "A dog on a beach", None)
        }

    @pytest.mark.parametrize(
        ("encoding", "caption"),
        [
            ("cp1252", "Grüße \u2013 „Köln“"),
            ("cp1251", "собака на пляже"),
            ("cp932", "海辺の犬"),
            ("utf-16", "Grüße"),
        ],
    )
    def test_read_sidecar_of_windows_is_read_in_its_encoding(self, tmp_path, encoding, caption):
        path = tmp_path / "a.txt"
        path.write_bytes(f"{caption}\r\n".encode(encoding))
        assert texts_of(read_sidecar(os.fsencode(path)).metadata.texts) == {
            ("caption", caption, None)
        }

    def test_read_sidecar_that_is_a_picture_raises_decode_error(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1 and more")
        with pytest.raises(DecodeError, match="it is not text"):
            read_sidecar(os.fsencode(path))
        path.write_bytes(b"An old mill\0\0")
        assert [text.text for text in read_sidecar(os.fsencode(path)).metadata.texts] == [
            "An old mill"
        ]

    def test_read_sidecar_json_returns_texts_of_known_fields(self, tmp_path):
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
        found = read_sidecar(os.fsencode(path)).metadata.texts
        assert {("caption", "A dog", None), ("description", "Wet.", None)} <= texts_of(found)
        (words,) = [text.text for text in found if text.kind == "keywords"]
        assert set(re.split("; ?", words)) == {"beach", "sea", "sun"}
        assert not any(text.kind == "title" for text in found)

    def test_read_sidecar_json_without_known_fields_returns_no_texts(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text("[1, 2]")
        assert read_sidecar(os.fsencode(path)).metadata == Metadata()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.json", b"{"),
            ("a.json", b"[" * 100_000),
            ("a.xmp", b"<x"),
            ("a.txt", b"x" * (MAX_SIDECAR_BYTES + 1)),
            ("a.xmp", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        ],
    )
    def test_sidecar_damaged_is_reported_and_other_texts_are_kept(self, tmp_path, name, content):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DecodeError):
            read_sidecar(os.fsencode(path))
        file = ScannedFile(b"red_boat.jpg", 1, 1, (Sidecar(os.fsencode(name), 1, 1),))
        found = collect_texts(os.fsencode(tmp_path), file)
        assert [text.kind for text in found.texts] == ["filename"]
        assert [problem.path for problem in found.problems] == [os.fsencode(path)]

    @given(st.binary(max_size=200))
    def test_read_sidecar_any_bytes_returns_texts_or_raises_decode_error(
        self, tmp_path_factory, content
    ):
        path = tmp_path_factory.getbasetemp() / "any"
        for suffix in (".txt", ".json", ".xmp"):
            path.with_suffix(suffix).write_bytes(content)
            with suppress(DecodeError):
                read_sidecar(os.fsencode(path.with_suffix(suffix)))


def test_parse_xmp_nested_too_deeply_raises_decode_error():
    for depth in (101, 40_000):
        with pytest.raises(DecodeError, match="nested more than 100 deep"):
            parse_xmp_sidecar(b"<a>" * depth)
    assert parse_xmp_sidecar(b"<a>" * 100 + b"</a>" * 100)[0].texts == ()


def test_parse_xmp_returns_texts_languages_keywords_and_coordinates():
    facts, _ = parse_xmp_sidecar(XMP.encode())
    assert {("title", "Harbour", None), ("description", "Boote im Hafen", "de")} <= texts_of(
        facts.texts
    )
    assert "boats" in next(text.text for text in facts.texts if text.kind == "keywords")
    assert facts.latitude == pytest.approx(48.86)
    assert facts.longitude == pytest.approx(-2.351667, abs=1e-5)


class TestFilenameTexts:
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
    def test_filename_texts_split_names_into_words_and_drop_camera_names(self, path, words):
        assert [text.text for text in make_filename_texts(path)] == ([words] if words else [])

    @pytest.mark.parametrize("ending", ["!", "", "o"])
    def test_filename_texts_of_adversarial_name_take_linear_time(self, ending):
        began = time.process_time()
        make_filename_texts(b"img1" + b"mpmm" * 60 + b"pmamhs" * 200 + ending.encode())
        # It takes less than a millisecond; a backtracking pattern would take years.
        assert time.process_time() - began < 5

    @given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
    def test_filename_texts_any_name_gives_non_empty_encodable_texts(self, path):
        for text in make_filename_texts(path):
            assert text.text.strip()
            text.text.encode()


class TestCaptionTables:
    @pytest.fixture
    def photos(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a.jpg").touch()
        return folder

    def read(self, table, folder):
        captions = read_captions(table, os.fsencode(folder))
        captions.match(lambda: [b"a.jpg"])
        return captions.captions

    @pytest.mark.parametrize("written", ["a.jpg", "photos/a.jpg", "./photos/a.jpg", "{}/a.jpg"])
    def test_read_captions_relative_and_absolute_paths_match_picture(self, photos, written):
        table = photos.parent / "c.csv"
        table.write_text(f"path,caption\n{written.format(photos)},A dog\n/else/b.jpg,No\n")
        assert self.read(table, photos) == {
            b"a.jpg": (Text("caption", "A dog", None, TextSource.TABLE),)
        }

    def test_read_captions_merges_all_rows_and_columns_of_picture(self, photos):
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

    def test_read_captions_parquet_returns_captions(self, photos):
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        table = photos / "c.parquet"
        parquet.write_table(arrow.table({"path": ["a.jpg"], "caption": ["A dog"]}), table)
        assert texts_of(self.read(table, photos)[b"a.jpg"]) == {("caption", "A dog", None)}

    def write_parquet(self, photos, columns, **options):
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        table = photos / "c.parquet"
        parquet.write_table(arrow.table(columns), table, compression="zstd", **options)
        return table

    def test_read_captions_parquet_bytes_lists_and_nulls_are_converted(self, photos):
        columns = {
            "Path": [b"a.jpg", b"b.jpg", None],
            "caption": [["A dog", "wet"], [], None],
            "language": ["en", None, "de"],
            "other": [1, 2, 3],
        }
        found = self.read(self.write_parquet(photos, columns), photos)
        assert texts_of(found[b"a.jpg"]) == {("caption", "A dog", "en"), ("caption", "wet", "en")}
        assert set(found) == {b"a.jpg"}

    def test_read_captions_parquet_missing_columns_raises_error_with_columns(self, photos):
        table = self.write_parquet(photos, {"path": ["a.jpg"], "lang": ["en"], "other": [1]})
        with pytest.raises(SourceError, match="the columns are path, lang, other"):
            self.read(table, photos)

    def test_read_captions_parquet_shared_value_bomb_raises_source_error(self, photos):
        arrow = pytest.importorskip("pyarrow")
        rows = 10_000
        shared = arrow.DictionaryArray.from_arrays([0] * rows, ["a" * 900_000])
        names = [f"{row}.jpg" for row in range(rows)]
        table = self.write_parquet(photos, {"path": names, "caption": shared})
        assert table.stat().st_size < 100_000
        # Decoded, it would take 9 GB.
        with pytest.raises(SourceError, match=r"grows to more than 1,000 times its size\."):
            self.read(table, photos)

    def test_read_captions_parquet_row_above_memory_limit_raises_source_error(self, photos):
        arrow = pytest.importorskip("pyarrow")
        values = 300_000
        shared = arrow.DictionaryArray.from_arrays([0] * values, ["a" * 10_000])
        captions = arrow.ListArray.from_arrays([0, values], shared)
        table = self.write_parquet(photos, {"path": ["a.jpg"], "caption": captions})
        assert table.stat().st_size < 10_000
        with pytest.raises(SourceError, match=r"needs more than 1 GiB of memory to be decoded\."):
            self.read(table, photos)

    def test_read_captions_parquet_too_many_rows_for_size_raises_source_error(self, photos):
        arrow = pytest.importorskip("pyarrow")
        rows = 50_000
        columns = {
            name: arrow.DictionaryArray.from_arrays(arrow.repeat(0, rows), ["a" * 100])
            for name in ("path", "caption")
        }
        table = self.write_parquet(photos, columns)
        assert table.stat().st_size < 20_000
        with pytest.raises(SourceError, match=r"grows to more than 1,000 times its size\."):
            self.read(table, photos)

    def test_read_captions_damaged_parquet_is_read_or_raises_source_error(self, photos):
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
    def test_read_captions_overlong_row_raises_source_error(self, photos, name, begin, piece):
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
    def test_read_captions_json_lines_too_deep_or_long_raise_source_error(self, photos, content):
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
            ("c.jsonl", b"{", "line 1 is not JSON"),
            ("c.jsonl", b"3", "not a JSON object"),
            ("c.parquet", b"PAR1", "not a Parquet file"),
            ("c.xls", b"", "not a caption table. Save it as CSV"),
            ("c.csv", b"PK\x03\x04", "is a workbook, not a caption table"),
            ("c.doc", b"", "not a caption table in a supported format"),
            ("c.csv", b"\r\n \r\n", "has no header"),
            ("c.csv", b'path,caption\na.jpg,"A dog\nb.jpg,B\n', "line 2: a quotation mark is not"),
            ("c.json", b"[3]", "row 1 is not a JSON object"),
            ("c.json", b'{"images": [{}], "annotations": []}', "is not a COCO file"),
        ],
    )
    def test_read_captions_invalid_table_raises_source_error_with_reason(
        self, photos, name, content, complaint
    ):
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
    def test_read_captions_empty_cell_gives_no_caption(self, photos, name, content):
        table = photos / name
        table.write_text(content)
        assert not self.read(table, photos).get(b"a.jpg")

    def test_read_captions_pipe_and_folder_raise_source_error_without_waiting(self, photos):
        os.mkfifo(photos / "pipe.csv")
        (photos / "folder.csv").mkdir()
        for name, kind in (("pipe", "a named pipe"), ("folder", "a folder")):
            with pytest.raises(SourceError, match=rf"{name}\.csv cannot be read: it is {kind}"):
                self.read(photos / f"{name}.csv", photos)

    def test_read_captions_missing_table_raises_source_error(self, photos):
        with pytest.raises(SourceError, match=r"none\.csv cannot be read"):
            self.read(photos / "none.csv", photos)
