"""Caption tables as spreadsheets and other machines write them, and how their paths match."""

# ruff: noqa: RUF001 - letters of many languages

import csv
import io
import json
import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.modalities._texts.caption_table import read_captions
from tests.property_budget import examples


@pytest.fixture
def folder(tmp_path):
    """A folder whose table is beside it; its pictures are `PICTURES`."""
    photos = tmp_path / "photos"
    photos.mkdir()
    return photos


PICTURES = ["2018/a.jpg", "2018/b.jpg", "2019/a.jpg", "c.jpg", "deep/er/only.jpg", "X Y.jpg"]


def match(folder, content, pictures=PICTURES, name="c.csv", encoding="utf-8"):
    """Return the captions by path, and the report."""
    table = folder.parent / name
    table.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    captions = read_captions(table, os.fsencode(folder))
    captions.match(lambda: map(os.fsencode, pictures))
    found = captions.captions.items()
    return {
        os.fsdecode(path): [text.text for text in texts] for path, texts in found
    }, captions.report


def matched(folder, path, pictures=PICTURES):
    """Return the pictures that a path in a table matches."""
    row = json.dumps({"path": path, "caption": "A dog"})
    return list(match(folder, row, pictures, name="c.jsonl")[0])


class TestLayout:
    @pytest.mark.parametrize(
        "content",
        [
            "path,caption\nc.jpg,A dog\n",
            "path;caption\r\nc.jpg;A dog\r\n",
            "path\tcaption\rc.jpg\tA dog\r",
            "path|caption\n\n \n|\nc.jpg|A dog\n\x1a",
            "sep=;\r\npath;caption\r\nc.jpg;A dog\r\n",
            '"sep=,"\r\npath,caption\r\nc.jpg,A dog\r\n',
            "sep=\t\npath\tcaption\nc.jpg\tA dog\n",
            '\ufeff"PATH","Caption"\n"c.jpg","A dog"\n',
            " Path ; Caption ;;\n c.jpg ; A dog ;;\n",
            'caption;"path";"a, b, c, d, e"\nA dog;c.jpg;x\n',
            "c\0a\0ption,path\nA d\0og,c.jpg\n",
            "File Name,Caption\nc.jpg,A dog\n",
            "SourceFile,Caption-Abstract\nc.jpg,A dog\n",
            "Dateiname;Beschreibung\nc.jpg;A dog\n",
            "id,img_path,caption_1\n7,c.jpg,A dog\n",
            "folder,file,caption\n,c.jpg,A dog\n",
            'path,caption\nc.jpg, "A dog"\n',
            'path,caption\nc.jpg,"A\n dog"\n',
            "path,caption,lang\nc.jpg,A dog\n",
            "path,caption\nc.jpg,A dog\nc.jpg,A dog\n./c.jpg,A dog\n",
        ],
    )
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_every_layout_gives_the_caption(self, folder, content, encoding):
        found, report = match(folder, content, encoding=encoding)
        assert found == {"c.jpg": ["A dog"]}
        assert report.matched == report.rows > 0

    @pytest.mark.parametrize(
        ("content", "caption"),
        [
            ("path,caption\nc.jpg,A dog, wet,,\n", "A dog, wet"),
            ("path,caption,,\nc.jpg,A dog, wet,\n", "A dog, wet"),
            ("path,caption,lang\nc.jpg,A dog,en,more\n", "A dog"),
            ('path;caption\nc.jpg;"A; ""red"", dog|\n\tcat"\n', 'A; "red", dog| cat'),
            ('path,caption\nc.jpg,5" disk\n', '5" disk'),
        ],
    )
    def test_delimiters_and_quotes_in_a_caption_are_kept(self, folder, content, caption):
        assert match(folder, content)[0] == {"c.jpg": [caption]}

    def test_folder_column_is_part_of_the_path(self, folder):
        found, _ = match(folder, "Directory,FileName,Title\n2018,a.jpg,A\n2019/,a.jpg,B\n")
        assert found == {"2018/a.jpg": ["A"], "2019/a.jpg": ["B"]}

    @pytest.mark.parametrize(
        "document",
        [
            [{"path": "c.jpg", "caption": "A dog"}, {"file name": "2018/b.jpg", "caption": ["B"]}],
            {"c.jpg": "A dog", "2018/b.jpg": {"caption": "B"}},
            {
                "images": [{"id": 1, "file_name": "c.jpg"}, {"id": 2, "file_name": "b.jpg"}],
                "annotations": [
                    {"id": 8, "image_id": 2, "caption": "B"},
                    {"id": 9, "image_id": 1, "caption": "A dog"},
                ],
            },
        ],
    )
    @pytest.mark.parametrize("indent", [None, 1])
    def test_json_documents_give_the_captions(self, folder, document, indent):
        found, _ = match(folder, json.dumps(document, indent=indent), name="c.json")
        assert found == {"c.jpg": ["A dog"], "2018/b.jpg": ["B"]}

    def test_json_file_may_be_json_lines(self, folder):
        rows = [{"path": "c.jpg", "caption": "A"}, {"path": "c.jpg", "caption": "B"}]
        content = "\n".join(map(json.dumps, rows))
        assert match(folder, content, name="c.json")[0] == {"c.jpg": ["A", "B"]}
        assert match(folder, json.dumps(rows[0]), name="c.json")[0] == {"c.jpg": ["A"]}

    def test_windows_table_is_read_in_its_encoding_and_the_report_says_so(self, folder):
        content = "Datei;Titel\r\nKüche\\Käse.jpg;Grüße\r\n"
        found, report = match(folder, content, ["Küche/Käse.jpg"], encoding="cp1252")
        assert found == {"Küche/Käse.jpg": ["Grüße"]}
        assert next(report.describe()) == (
            "c.csv (read as Windows-1252): 1 of 1 rows matched a picture."
        )


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "picture"),
        [
            ("2019\\a.jpg", "2019/a.jpg"),
            (".\\2019\\a.jpg", "2019/a.jpg"),
            ("photos\\2019\\a.jpg", "2019/a.jpg"),
            ("../photos/2019/a.jpg", "2019/a.jpg"),
            ("2019//a.jpg", "2019/a.jpg"),
            ("2018/../2019/a.jpg", "2019/a.jpg"),
            (" 2019/a.jpg ", "2019/a.jpg"),
            ('"2019/a.jpg"', "2019/a.jpg"),
            ("\u202a2019\\a.jpg", "2019/a.jpg"),
            ("2019/A.JPG", "2019/a.jpg"),
            ("2019/a", "2019/a.jpg"),
            ("X%20Y.jpg", "X Y.jpg"),
            ("only.jpg", "deep/er/only.jpg"),
            ("ONLY", "deep/er/only.jpg"),
            ("er/only.jpg", "deep/er/only.jpg"),
            ("D:\\Fotos\\2019\\a.jpg", "2019/a.jpg"),
            ("\\\\nas\\fotos\\2019\\a.jpg", "2019/a.jpg"),
            ("\\\\?\\D:\\2019\\a.jpg", "2019/a.jpg"),
            ("/Volumes/x/2019/a.jpg", "2019/a.jpg"),
            ("C:/only.jpg", "deep/er/only.jpg"),
            ("file:///D:/Fotos/2019/a.jpg", "2019/a.jpg"),
            ("file:///home/u/X%20Y.jpg", "X Y.jpg"),
            ("https://cdn.example/2019/a.jpg?w=200", "2019/a.jpg"),
            ("/other/photos/c.jpg", "c.jpg"),
            # Several pictures fit equally well, or none does.
            ("a.jpg", None),
            ("D:\\Fotos\\a.jpg", None),
            ("2017/x.jpg", None),
            ("2019", None),
            ("nly.jpg", None),
            (".", None),
            ("/", None),
            ("\ud800.jpg", None),
            ("a\0.jpg", None),
        ],
    )
    def test_path_matches_the_one_picture_it_can_mean(self, folder, path, picture):
        assert matched(folder, path) == ([] if picture is None else [picture])

    def test_exact_name_comes_before_unicode_form_and_letter_case(self, folder):
        composed, decomposed = (unicodedata.normalize(f, "Käse.jpg") for f in ("NFC", "NFD"))
        both = [composed, decomposed]
        assert [matched(folder, path, both) for path in both] == [[composed], [decomposed]]
        assert matched(folder, decomposed, [composed]) == [composed]
        assert matched(folder, decomposed, [composed, "KÄSE.jpg"]) == [composed]
        assert matched(folder, "KÄSE.JPG", [decomposed]) == [decomposed]
        assert matched(folder, "cat.jpg", ["Cat.jpg", "cat.jpg"]) == ["cat.jpg"]
        assert matched(folder, "CAT.jpg", ["Cat.jpg", "cat.jpg"]) == []
        assert matched(folder, "cat.jpg", ["cat.jpg", "x/cat.jpg"]) == ["cat.jpg"]
        assert matched(folder, "CAT.jpg", ["cat.jpg", "x/CAT.jpg"]) == ["cat.jpg"]

    def test_exact_name_with_signs_of_paths_is_not_read_otherwise(self, folder):
        for name in ("a\\b.jpg", "100%25.jpg", " a.jpg", "c:d.jpg", '"q".jpg'):
            assert matched(folder, name, [name, "b.jpg", "100%.jpg", "a.jpg", "q.jpg"]) == [name]

    def test_name_in_an_old_encoding_matches(self, folder):
        row = json.dumps({"path": "Käse.jpg", "caption": "A dog"})
        (folder.parent / "c.jsonl").write_text(row)
        captions = read_captions(folder.parent / "c.jsonl", os.fsencode(folder))
        captions.match(lambda: [b"K\xe4se.jpg"])
        assert list(captions.captions) == [b"K\xe4se.jpg"]

    def test_two_paths_that_only_differ_in_case_do_not_share_a_picture(self, folder):
        content = "path,caption\ncat.jpg,A\nCat.jpg,B\n"
        assert match(folder, content, ["cat.jpg"])[0] == {"cat.jpg": ["A"]}
        assert match(folder, content, ["CAT.jpg"])[0] == {}

    def test_two_folders_of_another_machine_do_not_share_a_picture(self, folder):
        content = "path,caption\nD:\\1\\only.jpg,A\nD:\\2\\only.jpg,B\n"
        found, report = match(folder, content)
        assert (found, report.unmatched.rows) == ({}, 2)

    def test_rows_of_one_folder_show_where_the_others_are(self, folder):
        content = "path,caption\nD:\\Fotos\\2019\\a.jpg,A\nD:\\Fotos\\2017\\only.jpg,B\n"
        found, report = match(folder, content)
        assert found == {"2019/a.jpg": ["A"]}
        assert report.unmatched.examples == ("D:\\Fotos\\2017\\only.jpg",)
        # There is a folder of this name, below the folder or beside it.
        (folder.parent / "2016").mkdir()
        for year in (2018, 2019, 2016):
            assert matched(folder, f"D:\\{year}\\only.jpg") == []
        assert matched(folder, "D:\\2015\\only.jpg") == ["deep/er/only.jpg"]
        content = "path,caption\n2019/a.jpg,A\n2017/only.jpg,B\n"
        assert match(folder, content)[0] == {"2019/a.jpg": ["A"]}

    def test_file_outside_the_folder_does_not_lend_its_caption(self, folder):
        (folder.parent / "only.jpg").touch()
        found, report = match(folder, "path,caption\nonly.jpg,A\n")
        assert (found, report.left_out.rows) == ({}, 1)

    def test_folder_behind_a_link_is_the_same_folder(self, folder, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(folder)
        (folder / "c.jpg").touch()
        for path in (folder / "c.jpg", link / "c.jpg", "photos/c.jpg", "link/c.jpg"):
            assert matched(link, str(path)) == ["c.jpg"]

    @settings(max_examples=examples(100))
    @given(st.text(max_size=12), st.lists(st.text("aA/.\\ %é", min_size=1, max_size=6), max_size=4))
    def test_any_path_matches_at_most_one_picture(self, tmp_path_factory, path, pictures):
        folder = tmp_path_factory.mktemp("any")
        names = [name for name in pictures if name.strip("/")]
        assert len(matched(folder, path, names)) <= 1


class TestReport:
    TABLE = (
        "path,caption\n2018/b.jpg,B\n2018/b.jpg,B\nc.jpg,\na.jpg,?\nx.jpg,?\ny.jpg,?\nz.jpg,?\n"
        "w.jpg,?\nnote.mov,M\nD:\\2019\\a.jpg,A\n,?\n"
    )

    def test_report_counts_every_row_once_and_shows_three(self, folder):
        (folder / "note.mov").touch()
        _, report = match(folder, self.TABLE)
        assert (report.rows, report.matched, report.without_text) == (11, 4, 1)
        assert (report.unmatched.rows, report.unmatched.examples) == (
            5,
            ("(row 12 has no path)", "x.jpg", "y.jpg"),
        )
        assert (report.ambiguous.rows, report.left_out.rows) == (1, 1)
        assert list(report.describe()) == [
            "c.csv: 4 of 11 rows matched a picture; 7 did not, such as '(row 12 has no path)', "
            "'x.jpg', 'y.jpg'.",
            "1 could mean several pictures, such as 'a.jpg'; write their folders, too.",
            "1 named files that this run left out, such as 'note.mov'.",
            "1 matched by the end of their paths, such as 'D:\\2019\\a.jpg = 2019/a.jpg'; check "
            "them.",
            "1 of the matched rows had no text.",
        ]

    def test_table_that_matches_nothing_says_what_to_do(self, folder):
        _, report = match(folder, "path,caption\nx\x1b[31m.jpg,A\n")
        assert list(report.describe()) == [
            "c.csv: 0 of 1 rows matched a picture; 1 did not, such as 'x\\x1b[31m.jpg'.",
            "Write paths relative to the indexed folder or to the table's own folder.",
        ]

    def test_table_with_only_a_header_has_no_rows(self, folder):
        _, report = match(folder, "path,caption\n")
        assert list(report.describe()) == ["c.csv has no rows."]


LETTERS = {
    "utf-8": "aäß猫ж🐶'’",
    "utf-8-sig": "aäß猫ж🐶'’",
    "utf-16": "aäß猫ж🐶'’",
    "utf-16-le": "aäß猫ж",
    "cp1252": "aäöüß",
}
CELLS = st.sampled_from([*LETTERS]).flatmap(
    lambda encoding: st.tuples(
        st.just(encoding),
        st.lists(
            st.text(LETTERS[encoding] + '";,|\t\n', max_size=9).map(lambda text: f"x {text} y"),
            min_size=1,
            max_size=5,
        ),
    )
)


@settings(max_examples=examples(150))
@given(CELLS, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_table_written_by_csv_gives_the_same_captions(
    tmp_path_factory, cells, delimiter, line_end, has_sep
):
    encoding, captions = cells
    file = io.StringIO(newline="")
    file.write(f"sep={delimiter}{line_end}" if has_sep else "")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(["File Name", "a;b|c,d\te", "Caption"])
    writer.writerows((f"{at}.jpg", "", caption) for at, caption in enumerate(captions))
    folder = tmp_path_factory.mktemp("photos")
    names = [f"{at}.jpg" for at in range(len(captions))]
    found, report = match(folder, file.getvalue(), names, encoding=encoding)
    assert found == {
        name: [" ".join(caption.split())] for name, caption in zip(names, captions, strict=True)
    }
    assert report.matched == len(captions)
