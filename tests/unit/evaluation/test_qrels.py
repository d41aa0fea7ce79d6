"""Captioned sets in every supported format."""

import json
from pathlib import Path

import pytest

from mmsearch.core.errors import SourceError
from mmsearch.evaluation.qrels import HitMatcher, Place, Qrel, read_qrels

COCO = {
    "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}],
    "annotations": [
        {"image_id": 7, "caption": "a red car "},
        {"image_id": 8, "caption": "a dog"},
        {"image_id": 8, "caption": "a red car"},
    ],
}
EXPECTED = [("a red car", {"7.jpg", "8.jpg"}), ("a dog", {"8.jpg"})]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "path,caption\n7.jpg,a red car\n8.jpg,a dog\n8.jpg,a red car\n"),
        ("a.csv", "query;paths\na red car;7.jpg|8.jpg\na dog;8.jpg\n"),
        ("a.tsv", "path\tclass\n7.jpg\ta red car\n8.jpg\ta dog\n./8.jpg\ta  red car\n"),
        ("a.csv", "\ufeffpath,caption\n7.jpg,a red car\n8.jpg,a dog\n8.jpg,a red car\n"),
        (
            "a.jsonl",
            '{"query": "a red car", "paths": ["7.jpg", "8.jpg"]}\n\n'
            '{"query": "a dog", "path": "8.jpg"}\n',
        ),
        ("captions.json", json.dumps(COCO)),
        ("results.token", "7.jpg#0\ta red car\n8.jpg#0\ta dog\n8.jpg#1\ta red car\n"),
        ("captions.txt", "image, caption\n7.jpg, a red car\n8.jpg, a dog\n8.jpg, a red car\n"),
        ("r.csv", "image_name| comment_number| comment\n7.jpg| 0| a red car\n8.jpg| 0| a dog\n"
         "8.jpg| 1| a red car\n"),
    ],
)  # fmt: skip
def test_read_qrels_each_file_format_returns_queries_with_paths(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_qrels(path) == [Qrel(q, frozenset(own)) for q, own in EXPECTED]


def karpathy(name="dog.jpg", split="test", *sentences, **more):
    raw = [{"raw": sentence, "tokens": []} for sentence in sentences]
    return {"filename": name, "imgid": 0, "split": split, "sentences": raw} | more


DATASET = {
    "dataset": "coco",
    "images": [
        karpathy("1.jpg", "train", "a red car", filepath="train2014"),
        karpathy("2.jpg", "test", "a dog", "a  red car ", filepath="val2014"),
        karpathy("3.jpg", "val", "a cat", filepath="val2014"),
        karpathy("4.jpg", "test", "a dog"),
    ],
}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (None, [("a dog", {"2.jpg", "4.jpg"}), ("a red car", {"2.jpg"})]),
        ("test", [("a dog", {"2.jpg", "4.jpg"}), ("a red car", {"2.jpg"})]),
        ("val", [("a cat", {"3.jpg"})]),
        (
            "all",
            [
                ("a red car", {"1.jpg", "2.jpg"}),
                ("a dog", {"2.jpg", "4.jpg"}),
                ("a cat", {"3.jpg"}),
            ],
        ),
    ],
)
def test_read_qrels_karpathy_split_returns_queries_of_split(tmp_path, split, expected):
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps(DATASET), encoding="utf-8")
    found = read_qrels(path, split=split)
    assert found == [Qrel(q, frozenset(own)) for q, own in expected]


def test_read_qrels_karpathy_same_file_names_are_distinguished_by_folder(tmp_path):
    path = tmp_path / "dataset.json"
    images = [karpathy("1.jpg", "test", query, filepath=query) for query in ("a", "b")]
    path.write_text(json.dumps({"images": images}), encoding="utf-8")
    assert read_qrels(path) == [
        Qrel("a", frozenset({"a/1.jpg"})),
        Qrel("b", frozenset({"b/1.jpg"})),
    ]


@pytest.mark.parametrize(
    ("content", "split", "said"),
    [
        (
            DATASET,
            "dev",
            r"has no split 'dev'\. Choose one with split=\.\.\.: test, train, val or all\.",
        ),
        (COCO, "test", "has no splits. Leave out split."),
        ({"images": [{"sentences": []}]}, None, "is not a Karpathy dataset"),
        ({"images": [karpathy(), 5]}, None, "is not a Karpathy dataset"),
        ({"images": [karpathy() | {"sentences": 7}]}, None, "is not a Karpathy dataset"),
        ({"images": [karpathy() | {"sentences": [{}]}]}, None, "is not a Karpathy dataset"),
        ({"images": [karpathy("a.jpg", "test")]}, None, "has no query"),
        ({"images": 5}, None, "is neither a COCO caption file"),
        ({"images": [5, None]}, None, "is neither a COCO caption file"),
        ([1], None, "is neither a COCO caption file"),
        ("x", "test", "has no splits"),
    ],
)
def test_read_qrels_json_of_wrong_shape_or_split_raises_source_error(
    tmp_path, content, split, said
):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SourceError, match=said):
        read_qrels(path, split=split)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, ""])
def test_read_qrels_invalid_json_raises_source_error(tmp_path, content):
    path = tmp_path / "dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match="is not valid JSON"):
        read_qrels(path)


def test_read_qrels_split_of_table_raises_source_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("path,caption\n7.jpg,a dog\n", encoding="utf-8")
    with pytest.raises(SourceError, match="has no splits"):
        read_qrels(path, split="test")


def test_read_qrels_column_and_template_build_queries(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("path,caption,word\na.jpg,long text,dog\n")
    assert read_qrels(path, "word", "a photo of a {}") == [
        Qrel("a photo of a dog", frozenset({"a.jpg"}))
    ]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", "path,word_count\na.jpg,3\n", "no column named"),
        ("a.csv", "caption\na dog\n", "no column of paths"),
        ("a.csv", "path,caption\n", "no query"),
        ("a.csv", "", "no header"),
        ("a.json", "[1, 2]", "neither a COCO caption file"),
        ("a.jsonl", "{broken", "line 1 is not JSON"),
        ("a.jsonl", "[1]", "not a JSON object"),
        ("a.token", "7.jpg#0\ta car\nbroken\n", "line 2"),
    ],
)
def test_read_qrels_invalid_file_raises_source_error_with_path(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceError, match=complaint) as refusal:
        read_qrels(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("encoding", "table"),
    [
        ("cp1252", "path,caption\na.jpg,café\n"),
        ("utf-16", "sep=;\r\nFile Name;Caption\r\n a.jpg ;café\r\n"),
        ("utf-16-le", "path\tcaption\na.jpg\tcafé\n"),
    ],
)
def test_read_qrels_table_of_spreadsheet_is_read_in_its_encoding(tmp_path, encoding, table):
    path = tmp_path / "a.csv"
    path.write_bytes(table.encode(encoding))
    assert read_qrels(path) == [Qrel("café", frozenset({"a.jpg"}))]


def test_hit_matcher_matches_full_path_before_longest_path_suffix():
    names = frozenset({"x/a.jpg", "a.jpg", "deep/x/a.jpg"})
    relevance = HitMatcher([Qrel("q", names)], Path("/set"))
    assert relevance.match(Path("/set/a.jpg")) == "a.jpg"
    assert relevance.match(Path("/elsewhere/deep/x/a.jpg")) == "deep/x/a.jpg"
    assert relevance.match(Path("/elsewhere/x/a.jpg")) == "x/a.jpg"
    assert relevance.match(Path("/elsewhere/b.jpg")) is None
    assert len(set(relevance.match_all([Path("/p/b.jpg"), Path("/q/b.jpg")]))) == 2


def test_hit_matcher_compares_names_as_unicode_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("query,path\na lake,Z\u00fcrich/a.jpg\n", encoding="utf-8")
    qrels = read_qrels(path)
    matcher = HitMatcher(qrels, tmp_path)
    for folder in ("Z\u00fcrich", "Zu\u0308rich"):
        assert matcher.match(tmp_path / folder / "a.jpg") in qrels[0].relevant
        assert matcher.match(Path("/b") / folder / "a.jpg") in qrels[0].relevant


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.csv",
            "query,path,start_s,end_s,page\nhello,a.mp4,61.5,,\nhello,a.mp4,70,72,\n"
            "hello,b.jpg,,,\nsetup,c.pdf,,,17\n",
        ),
        (
            "a.jsonl",
            '{"query": "hello", "path": "a.mp4", "start_s": 61.5}\n'
            '{"query": "hello", "path": "a.mp4", "start_s": "70", "end_s": 72}\n'
            '{"query": "hello", "path": "b.jpg", "page": null}\n'
            '{"query": "setup", "path": "c.pdf", "page": 17}\n',
        ),
    ],
)
def test_read_qrels_columns_of_places_name_moments_and_pages(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    moments = frozenset({Place(61.5, 61.5), Place(70, 72)})
    assert read_qrels(path) == [
        Qrel("hello", frozenset({"a.mp4", "b.jpg"}), {"a.mp4": moments}),
        Qrel("setup", frozenset({"c.pdf"}), {"c.pdf": frozenset({Place(page=17)})}),
    ]


@pytest.mark.parametrize(
    ("start", "end", "page", "complaint"),
    [
        ("soon", "", "", "start_s is 'soon', not a number"),
        ("nan", "", "", "start_s is 'nan', not a number"),
        ("1:02", "", "", "start_s is '1:02', not a number"),
        ("-1", "", "", "-1 to -1 s is not a span"),
        ("5", "4", "", "5 to 4 s is not a span"),
        ("", "4", "", "end_s without start_s"),
        ("5", "", "2", "both a time and a page"),
        ("", "", "0", "page 0 does not exist"),
        ("", "", "1.5", "page 1.5 does not exist"),
        ("", "", "https://example.org", "not a number"),
    ],
)
def test_read_qrels_wrong_place_raises_source_error_with_line(
    tmp_path, start, end, page, complaint
):
    path = tmp_path / "a.csv"
    path.write_text(f"query,path,start_s,end_s,page\nx,a.mp4,{start},{end},{page}\n", "utf-8")
    with pytest.raises(SourceError, match="line 2") as caught:
        read_qrels(path)
    assert complaint in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("start_ms", "is_right"),
    [(4_999, False), (5_000, True), (12_000, True), (17_100, True), (17_101, False), (None, False)],
)
def test_qrel_moment_is_right_within_seconds_of_its_span(start_ms, is_right):
    qrel = Qrel("x", frozenset({"a", "b"}), {"a": frozenset({Place(10.0, 12.1)})})
    assert qrel.is_placed("a", start_ms, None, 5.0) is is_right
    assert qrel.is_placed("b", start_ms, None, 5.0), "relevant as a whole"
    assert not qrel.is_placed("c", start_ms, None, 5.0)


def test_qrel_page_is_right_if_it_is_the_same():
    qrel = Qrel("x", frozenset({"a"}), {"a": frozenset({Place(page=3), Place(page=7)})})
    assert [qrel.is_placed("a", None, page, 5.0) for page in (3, 4, 7, None)] == [
        *(True, False, True, False)
    ]
