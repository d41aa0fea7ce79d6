"""Files that are not pictures of their own, and the reasons that the walk gives for them."""

import os
import shutil

import pytest

from mmsearch.core.reports import SkippedCount, format_skipped
from mmsearch.modalities import _contents
from mmsearch.modalities._folder import walk
from mmsearch.modalities._other_files import count_skipped, shot_key
from mmsearch.modalities.image import build

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
MOV = b"\0\0\0\x14ftypqt  "
CR2 = b"II*\0\x10\0\0\0CR\x02\0"


class RawModality:
    """Reader of RAW files; without its extra it reads nothing."""

    def __init__(self, missing_extra="raw"):
        self.missing_extra = missing_extra

    def can_read(self, path):
        return path.lower().endswith((b".cr2", b".nef", b".dng", b".raf"))

    def recognizes(self, head):
        return head[8:10] == b"CR" or head.startswith(b"FUJIFILMCCD-RAW")


def write(root, contents):
    for name, content in contents.items():
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def examine(root, modalities=None, **options):
    """Return the names of pictures with their sidecars, and the reasons of all other files."""
    pictures, reasons = {}, {}
    for folder in walk(os.fsencode(root), modalities=modalities or [build()], **options):
        for file in folder.list_files():
            sidecars = [os.fsdecode(sidecar.path) for sidecar in file.sidecars]
            pictures[os.fsdecode(file.path)] = sidecars
        for file in folder.list_skipped():
            reasons[os.fsdecode(file.path)] = file.reason
    return pictures, reasons


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("clip.mov", MOV, "video"),
        ("CLIP.MP4", b"junk", "video"),
        ("clip", MOV, "video"),
        ("clip.dat", b"RIFF\0\0\0\0AVI LIST", "video"),
        ("song.mp3", b"ID3", "audio"),
        ("voice", b"\0\0\0\x20ftypM4A ", "audio"),
        ("letter.pdf", b"%PDF-1.4", "document"),
        ("letter.doc", b"\xd0\xcf\x11\xe0", "no pages; save it as PDF"),
        ("letter", b"%PDF-1.4", "document"),
        ("notes.txt", b"hello", "document"),
        ("all.zip", b"PK\x03\x04", "archive"),
        ("layers.xcf", b"gimp xcf file", "kind of picture that is not supported"),
        ("README", b"hello", "not a picture"),
        ("data.bin", b"\xff\xd8", "not a picture"),
        ("nothing", b"", "empty file"),
        ("a.jpg.part", JPEG, "unfinished download"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", "file of the system"),
        ("IMG_1.xmp", b"<x/>", "sidecar without a picture"),
        (".DS_Store", b"x", "hidden"),
    ],
)
def test_file_that_is_no_picture_has_its_kind_as_reason(tmp_path, name, content, reason):
    write(tmp_path, {name: content})
    assert examine(tmp_path) == ({}, {name: reason})


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.jpg_large", "IMG.MOV", "a.txt", "é"])
def test_picture_with_other_name_is_recognized_by_content(tmp_path, name):
    write(tmp_path, {name: JPEG})
    assert examine(tmp_path) == ({name: []}, {})


def test_recognized_picture_has_its_sidecars_in_the_order_of_names(tmp_path):
    write(tmp_path, {"a.jpg": JPEG, "b": JPEG, "b.txt": b"words", "c.jpg": JPEG})
    pictures, reasons = examine(tmp_path)
    assert list(pictures.items()) == [("a.jpg", []), ("b", ["b.txt"]), ("c.jpg", [])]
    assert reasons == {}


def test_sidecars_of_pictures_are_not_opened(tmp_path, monkeypatch):
    write(tmp_path, {"a.jpg": JPEG, "a.txt": b"words", "a.jpg.xmp": b"<x/>", "a.json": b"{}"})
    monkeypatch.setattr(_contents, "open_regular_file", None)
    assert sorted(examine(tmp_path)[0]["a.jpg"]) == ["a.jpg.xmp", "a.json", "a.txt"]


def test_text_of_a_video_and_orphans_are_reported(tmp_path):
    takeout = "VID_2.mp4.supplemental-metadata.json"
    write(tmp_path, {"VID_1.mp4": MOV, "VID_1.mp4.json": b"{}", "gone.json": b"{}"})
    write(tmp_path, {"VID_2.mp4": MOV, takeout: b"{}", "VID_2.xmp": b"<x/>"})
    write(tmp_path, {"a.bin": b"x", "a.bin.txt": b"x"})
    assert examine(tmp_path)[1] == {
        "VID_1.mp4": "video",
        "VID_1.mp4.json": "text of VID_1.mp4",
        "gone.json": "document",
        "VID_2.mp4": "video",
        takeout: "text of VID_2.mp4",
        "VID_2.xmp": "text of VID_2.mp4",
        "a.bin": "not a picture",
        "a.bin.txt": "text of a.bin",
    }


@pytest.mark.parametrize(
    ("photo", "raw"),
    [
        ("IMG_1.JPG", "IMG_1.CR2"),
        ("IMG_1.jpg", "img_1.cr2"),
        ("IMG_1.HEIC", "IMG_1.DNG"),
        ("IMG_1.JPG", "IMG_1.JPG.dng"),
        ("DSCF1.hif", "DSCF1.RAF"),
        ("PXL_1.RAW-01.COVER.jpg", "PXL_1.RAW-02.ORIGINAL.dng"),
        ("PXL_1.RAW-01.MP.COVER.jpg", "PXL_1.RAW-02.ORIGINAL.dng"),
        ("é.jpg", "É.nef"),
    ],
)
@pytest.mark.parametrize("modality", [RawModality(), RawModality(None)])
def test_raw_file_belongs_to_the_photograph_of_its_shot(tmp_path, photo, raw, modality):
    write(tmp_path, {photo: JPEG, raw: CR2})
    assert examine(tmp_path, [build(), modality]) == ({photo: []}, {raw: f"RAW of {photo}"})


@pytest.mark.parametrize("other", ["IMG_2.JPG", "IMG_1.PNG", "sub/IMG_1.JPG", "IMG_1-edited.JPG"])
def test_raw_file_of_another_shot_is_a_picture_of_its_own(tmp_path, other):
    write(tmp_path, {other: JPEG, "IMG_1.CR2": CR2})
    pictures, reasons = examine(tmp_path, [build(), RawModality(None)])
    assert (set(pictures), reasons) == ({other, "IMG_1.CR2"}, {})


def test_raw_file_beside_empty_or_excluded_photograph_is_read(tmp_path):
    write(tmp_path, {"IMG_1.JPG": b"", "IMG_1.CR2": CR2, "IMG_2.JPG": JPEG, "IMG_2.CR2": CR2})
    modalities = [build(), RawModality(None)]
    assert "IMG_1.CR2" in examine(tmp_path, modalities)[0]
    pictures, reasons = examine(tmp_path, modalities, exclude=["*.jpg"])
    assert set(pictures) == {"IMG_1.CR2", "IMG_2.CR2"}
    assert reasons == {"IMG_1.JPG": "excluded", "IMG_2.JPG": "excluded"}


def test_sidecar_of_raw_file_belongs_to_the_photograph_of_its_shot(tmp_path):
    write(tmp_path, {"IMG_1.JPG": JPEG, "IMG_1.CR2": CR2, "IMG_1.CR2.xmp": b"<x/>"})
    pictures, reasons = examine(tmp_path, [build(), RawModality(None)])
    assert pictures == {"IMG_1.JPG": ["IMG_1.CR2.xmp"]}
    assert reasons == {"IMG_1.CR2": "RAW of IMG_1.JPG"}


@pytest.mark.parametrize(
    ("photo", "companion", "reason"),
    [
        ("IMG_1.HEIC", "IMG_1.MOV", "video"),
        ("IMG_1.JPG", "img_1.mp4", "video"),
        ("PXL_1.MP.jpg", "PXL_1.MP", "video"),
        ("PXL_1.MP.jpg", "PXL_1.MP.mp4", "video"),
        ("MVIMG_1.jpg", "MVIMG_1.MP4", "video"),
        ("MVIMG_1.jpg", "MVIMG_1", "video"),
        ("IMG_1.HEIC", "IMG_1.AAE", "edits"),
        ("IMG_1.HEIC", "IMG_O1.AAE", "edits"),
        ("IMG_1.JPG", "IMG_1.THM", "thumbnail"),
        ("a.jpg", "a.jpg_original", "backup"),
        ("a.jpg", "a.jpg~", "backup"),
    ],
)
def test_companions_belong_to_their_picture(tmp_path, photo, companion, reason):
    write(tmp_path, {photo: JPEG, companion: MOV})
    assert examine(tmp_path) == ({photo: []}, {companion: f"{reason} of {photo}"})


def test_video_of_picture_recognized_by_content_and_others(tmp_path):
    write(tmp_path, {"IMG_1": JPEG, "IMG_1.MOV": MOV, "poster.png": b"\x89PNG", "poster.mp4": MOV})
    assert examine(tmp_path)[1] == {"IMG_1.MOV": "video of IMG_1", "poster.mp4": "video"}


def test_edited_copies_are_pictures_of_their_own(tmp_path):
    write(tmp_path, {"IMG_1.HEIC": JPEG, "IMG_E1.HEIC": JPEG, "IMG_E1.MOV": MOV})
    pictures, reasons = examine(tmp_path)
    assert set(pictures) == {"IMG_1.HEIC", "IMG_E1.HEIC"}
    assert reasons == {"IMG_E1.MOV": "video of IMG_E1.HEIC"}


def test_thumbnail_of_a_video_is_no_picture(tmp_path):
    write(tmp_path, {"MVI_1.AVI": b"RIFF", "MVI_1.THM": JPEG, "alone.thm": JPEG})
    assert examine(tmp_path) == (
        {"alone.thm": []},
        {"MVI_1.AVI": "video", "MVI_1.THM": "thumbnail of MVI_1.AVI"},
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("IMG_1.CR2", CR2, "install '.[raw]'"),
        ("IMG_1.NEF", b"MM\0*" + bytes(60), "install '.[raw]'"),
        ("IMG_1.dat", CR2, "install '.[raw]'"),
        ("DSCF1", b"FUJIFILMCCD-RAW 0201", "install '.[raw]'"),
        ("IMG_1.x3f", b"II*\0" + bytes(60), "kind of picture that is not supported"),
    ],
)
def test_file_without_its_extra_says_what_to_install(tmp_path, name, content, reason):
    write(tmp_path, {name: content})

    # The content of these RAW files begins like any TIFF, too.
    class Tiff(RawModality):
        def recognizes(self, head):
            return head.startswith((b"II*\0", b"MM\0*")) and head[8:10] != b"CR"

        def can_read(self, path):
            return path.endswith(b".tif")

    assert examine(tmp_path, [Tiff(None), RawModality()]) == ({}, {name: reason})


def test_jpeg_named_like_a_raw_file_is_read_without_the_extra(tmp_path):
    write(tmp_path, {"IMG_1.CR2": JPEG})
    assert examine(tmp_path, [build(), RawModality()]) == ({"IMG_1.CR2": []}, {})


def test_links_special_files_and_folders_are_reported(tmp_path):
    write(tmp_path, {"a.jpg": JPEG, ".git/b": b"x", "@eaDir/a.jpg": JPEG, "drafts/c.jpg": JPEG})
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "folder").symlink_to(".git")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    link = "link that is not followed (add --follow-symlinks)"
    left_out = {".git": "hidden folder", "@eaDir": "folder of the system"}
    pipe = {"pipe.jpg": "a named pipe", "drafts": "excluded folder"}
    pictures, reasons = examine(tmp_path, exclude=["drafts/"])
    links = dict.fromkeys(("link.jpg", "folder", "broken.jpg", "circle"), link)
    assert (set(pictures), reasons) == ({"a.jpg"}, left_out | pipe | links)
    pictures, reasons = examine(tmp_path, exclude=["drafts/"], follow_symlinks=True)
    assert set(pictures) == {"a.jpg", "link.jpg"}
    broken = dict.fromkeys(("broken.jpg", "circle"), "link to nothing")
    assert reasons == left_out | pipe | broken | {"folder/b": "not a picture"}


def test_patterns_leave_out_files_of_any_kind(tmp_path):
    write(tmp_path, {"a.jpg": JPEG, "a.txt": b"x", "b.png": b"\x89PNG", "b.txt": b"x", "c": JPEG})
    pictures, reasons = examine(tmp_path, include=["*.jpg"])
    assert pictures == {"a.jpg": ["a.txt"]}
    assert reasons == {"b.png": "excluded", "b.txt": "text of b.png", "c": "excluded"}


def test_folder_of_an_index_is_left_out_as_a_whole(tmp_path):
    write(
        tmp_path,
        {"a.jpg": JPEG, "home/x/catalog.sqlite": b"x", "home/x/segments/1.vectors": b"x"},
    )
    assert examine(tmp_path) == ({"a.jpg": []}, {"home/x/catalog.sqlite": "folder of an index"})


def test_file_that_cannot_be_opened_is_reported(tmp_path, monkeypatch):
    write(tmp_path, {"secret": b"x"})

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_contents, "open_regular_file", refuse)
    assert examine(tmp_path)[1] == {"secret": "cannot be opened: permission denied"}


def test_files_that_are_known_are_not_opened_again(tmp_path, monkeypatch):
    write(tmp_path, {"notes": b"words", "photo": JPEG, "a.cr2": CR2, "b.cr2": CR2})
    known = {b"notes": "not a picture", b"photo": "", b"a.cr2": "install '.[raw]'"}
    known[b"b.cr2"] = "install '.[rawpy]'"
    asked, opened = [], []

    def recall(path, size, mtime_ns):
        asked.append((path, size, mtime_ns))
        return known[path]

    open_file = _contents.open_regular_file
    monkeypatch.setattr(
        _contents, "open_regular_file", lambda path: opened.append(path) or open_file(path)
    )
    pictures, reasons = examine(tmp_path, [build(), RawModality()], recall=recall)
    assert (set(pictures), len(reasons)) == ({"photo"}, 3)
    assert (b"notes", 5, (tmp_path / "notes").stat().st_mtime_ns) in asked
    # An extra that is not asked for any more may have been installed.
    assert [os.path.basename(path) for path in opened] == [b"b.cr2"]


def test_listing_twice_opens_files_once(tmp_path, monkeypatch):
    write(tmp_path, {"notes": b"words"})
    (folder,) = walk(os.fsencode(tmp_path), modalities=[build()])
    assert [file.reason for file in folder.list_skipped()] == ["not a picture"]
    monkeypatch.setattr(_contents, "open_regular_file", None)
    assert list(folder.list_files()) == []
    assert len(list(folder.list_skipped())) == 1


def test_digest_changes_when_an_extra_is_installed(tmp_path):
    write(tmp_path, {"a.cr2": CR2})
    digests = {
        next(iter(walk(os.fsencode(tmp_path), modalities=[RawModality(extra)]))).digest
        for extra in ("raw", None)
    }
    assert len(digests) == 2


def test_every_file_of_a_tree_is_accounted_for(tmp_path, photos):
    shutil.copytree(photos, tmp_path / "photos")
    write(tmp_path, {"x/.hidden": b"", "x/y": b"", "x/y.txt": b"1", "x/z.jpg": JPEG, "a.xmp": b""})
    pictures, reasons = examine(tmp_path)
    sidecars = {name for names in pictures.values() for name in names}
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {*pictures, *sidecars, *reasons} == files
    assert len(pictures) + len(sidecars) + len(reasons) == len(files)


def test_shot_key_joins_names_of_one_shot():
    keys = {shot_key(n) for n in (b"IMG_1.CR2", b"img_1.jpg", b"IMG_1.JPG.dng", b"IMG_1.MP.jpg")}
    assert keys == {"img_1"}
    assert shot_key(b".MP.jpg") == ".mp"
    assert shot_key(b"\xff.jpg") == shot_key(b"\xff.CR2")


def test_count_skipped_groups_by_kind_and_reason():
    rows = [(b"a.mov", "video"), (b"x.d/B.MOV", "video"), (b"c.d/x", "not a picture")]
    rows += [(b"i.cr2", "RAW of i.jpg"), (b"j.CR2", "RAW of j.jpg"), (b".x", "hidden")]
    assert count_skipped(rows) == (
        SkippedCount("CR2", "RAW of another file", 2),
        SkippedCount("MOV", "video", 2),
        SkippedCount("files without ending", "not a picture", 1),
        SkippedCount("hidden files", "hidden", 1),
    )


def test_format_skipped_shows_what_to_install_first_and_joins_the_rest():
    counts = [SkippedCount("MOV", "video", 5000), SkippedCount("CR2", "RAW of another file", 7)]
    counts += [SkippedCount("hidden files", "hidden", 4), SkippedCount("links not followed", "", 1)]
    counts += [SkippedCount("CR2", "install '.[raw]'", 9)]
    assert format_skipped(counts) == (
        "5,014 not read: 9 CR2 (install '.[raw]'), 1 link not followed (add --follow-symlinks), "
        "5,000 MOV (video), 4 hidden files; 7 belong to other files"
    )
    many = [SkippedCount(f"X{number}", "video", 2) for number in range(9)]
    assert format_skipped(many).endswith("2 X5 (video), and 6 others")
    assert format_skipped([]) == ""
    assert format_skipped(counts[1:2]) == "7 belong to other files"
    assert format_skipped([SkippedCount("MOV", "video of another file", 1)]) == (
        "1 belongs to another file"
    )


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ("kind of picture that is not supported", "install '.[raw]'"),
        ("install '.[raw]'", "install '.[raw]'"),
        ("", None),
    ],
)
def test_walk_names_extra_of_files_that_an_earlier_version_did_not_read(tmp_path, known, reason):
    write(tmp_path, {"a.cr2": CR2})
    pictures, reasons = examine(tmp_path, [build(), RawModality()], recall=lambda *facts: known)
    # A picture of an earlier run stays.
    assert (list(pictures), reasons) == (([], {"a.cr2": reason}) if reason else (["a.cr2"], {}))
