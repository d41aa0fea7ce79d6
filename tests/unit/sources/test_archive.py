"""Tests of archives: samples, texts, names, and what is refused."""

import io
import json
import struct
import tarfile
import zipfile

import pytest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.sources import SourceFailure
from mmsearch.sources import _archives, _members, _tar, archive
from tests.source_samples import collect_items

JPEG = b"\xff\xd8\xff\xe0 a picture"


def is_picture(name, head):
    return name.lower().endswith((b".jpg", b".png")) or head.startswith(b"\xff\xd8\xff")


def build(path, **choices):
    return archive.build(str(path).encode(), is_picture=is_picture, **choices)


def read_all(path, **choices):
    return collect_items(build(path, **choices))


def member(name, content=JPEG, **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_tar(path, *members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture(params=["tar", "zip"])
def write(request, tmp_path):
    """Write members to an archive of both formats."""

    def write(members):
        if request.param == "zip":
            return write_zip(tmp_path / "a.zip", members)
        return write_tar(tmp_path / "a.tar", *(member(*pair) for pair in members.items()))

    return write


# --- texts ---


def test_archive_sample_with_text_and_json_has_texts_and_metadata(write):
    values = {"caption": "a red barn", "tags": ["farm", "red"], "width": 640, "exif": "{}"}
    path = write(
        {
            "s/0001.jpg": JPEG,
            "s/0001.txt": b"an old barn",
            "s/0001.json": json.dumps(values).encode(),
        }
    )
    items, failures = read_all(path)
    assert failures == {}
    item = items[b"s/0001.jpg"]
    assert sorted((text.kind, text.text) for text in item.texts) == [
        ("caption", "a red barn"),
        ("caption", "an old barn"),
        ("keywords", "farm; red"),
    ]
    assert item.metadata == {"width": 640, "exif": "{}"}


def test_archive_text_before_its_picture_counts(write):
    items, _ = read_all(write({"1.cap": b"a barn", "1.jpg": JPEG, "2.jpg": JPEG}))
    assert [text.text for text in items[b"1.jpg"].texts] == ["a barn"]
    assert items[b"2.jpg"].texts == ()


def test_archive_pictures_of_one_sample_share_its_texts(write):
    items, _ = read_all(write({"1.left.jpg": JPEG, "1.right.jpg": JPEG, "1.txt": b"a barn"}))
    assert [len(item.texts) for item in items.values()] == [1, 1]


def test_archive_text_belongs_to_the_picture_whose_name_it_has(write):
    items, _ = read_all(
        write({"IMG.1.jpg": JPEG, "IMG.2.jpg": JPEG, "IMG.1.txt": b"one", "IMG.2.jpg.txt": b"two"})
    )
    assert {key: item.texts[0].text for key, item in items.items()} == {
        b"IMG.1.jpg": "one",
        b"IMG.2.jpg": "two",
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "it is not JSON"),
        (b"[" * 200_000, "it is not JSON"),
        (b" " * 1_000_001, "it is larger than 1 MB"),
    ],
)
def test_archive_damaged_sidecar_is_a_failure_and_its_picture_is_read(write, content, reason):
    items, failures = read_all(write({"1.jpg": JPEG, "1.json": content}))
    assert list(items) == [b"1.jpg"]
    assert failures == {b"1.json": reason}


def test_archive_picture_is_recognized_by_its_content(write):
    items, failures = read_all(write({"a": JPEG, "b.bin": JPEG, "README.md": b"# a picture"}))
    assert (list(items), failures) == ([b"a", b"b.bin"], {})


def test_archive_hidden_members_are_read_only_if_wanted(write):
    path = write({"a.jpg": JPEG, ".b.jpg": JPEG, "__MACOSX/._a.jpg": JPEG})
    assert list(read_all(path)[0]) == [b"a.jpg"]
    assert len(read_all(path, hidden=True)[0]) == 3


def test_archive_sample_of_many_pictures_does_not_wait_for_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_archives, "MAX_SAMPLE_PICTURES", 2)
    names = [f"burst.{number}.jpg" for number in range(5)]
    source = build(write_tar(tmp_path / "a.tar", *map(member, names)))
    (part,) = source.parts()
    assert [item.key.decode() for item in source.items(part)] == names


# --- names ---


@pytest.mark.parametrize(
    "name", ["/a.jpg", "../a.jpg", "a/../../b.jpg", "C:/a.jpg", "a\\..\\..\\b.jpg", "\\a.jpg"]
)
def test_archive_name_that_leads_out_is_refused(write, name):
    items, failures = read_all(write({name: JPEG, "good.jpg": JPEG}))
    assert list(items) == [b"good.jpg"]
    assert list(failures.values()) == ["its name leads out of the archive"]


def test_archive_needless_parts_of_names_are_left_out(tmp_path):
    items, _ = read_all(write_tar(tmp_path / "a.tar", member("./x//./a.jpg")))
    assert list(items) == [b"x/a.jpg"]


def test_archive_second_member_of_a_name_is_a_failure(tmp_path):
    path = write_tar(tmp_path / "a.tar", member("a.jpg"), member("a.jpg", JPEG + b"2"))
    items, failures = read_all(path)
    assert items[b"a.jpg"].load() == JPEG
    assert failures == {b"a.jpg (again)": "another member of the archive has the same name"}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.jpg", JPEG)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.jpg", JPEG + b"2")
    items, failures = read_all(tmp_path / "a.zip")
    assert items[b"a.jpg"].load() == build(tmp_path / "a.zip").read(b"a.jpg") == JPEG
    assert list(failures) == [b"a.jpg (again)"]


def test_archive_name_that_is_not_utf8_is_kept_as_bytes(tmp_path):
    info, content = member("x")
    info.name = b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    path = write_tar(
        tmp_path / "a.tar", (info, content), format=tarfile.GNU_FORMAT, encoding="utf-8"
    )
    assert list(read_all(path)[0]) == [b"\xff\xfe.jpg"]
    assert build(path).read(b"\xff\xfe.jpg") == JPEG


def test_archive_zip_of_macos_has_names_in_utf8_without_saying_so(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"Gr\u00fcn.jpg": JPEG})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.index(signature) + offset
        flags = struct.unpack_from("<H", content, at)[0]
        struct.pack_into("<H", content, at, flags & ~0x800)
    path.write_bytes(content)
    assert list(read_all(path)[0]) == ["Gr\u00fcn.jpg".encode()]


# --- refused members ---


def test_archive_links_are_failures_and_are_not_followed(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG + b"secret")
    path = write_tar(
        tmp_path / "a.tar",
        member("a.jpg"),
        member("soft.jpg", b"", type=tarfile.SYMTYPE, linkname=str(secret)),
        member("hard.jpg", b"", type=tarfile.LNKTYPE, linkname="a.jpg"),
        member("fifo.jpg", b"", type=tarfile.FIFOTYPE),
        member("folder.jpg", b"", type=tarfile.DIRTYPE),
    )
    items, failures = read_all(path)
    assert list(items) == [b"a.jpg"]
    assert failures == dict.fromkeys([b"soft.jpg", b"hard.jpg"], _members.LINK)
    with pytest.raises(DecodeError, match="link"):
        build(path).read(b"soft.jpg")
    info = zipfile.ZipInfo("soft.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, str(secret))
    assert read_all(tmp_path / "a.zip") == ({}, {b"soft.jpg": _members.LINK})


def test_archive_encrypted_member_is_a_failure(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.jpg": JPEG, "b.jpg": JPEG, "b.txt": b"text"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    items, failures = read_all(path)
    assert (list(items), failures) == ([b"b.jpg"], {b"a.jpg": "it is encrypted"})


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_archive_member_beyond_the_limit_is_a_failure(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(_members, "MAX_MEMBER_BYTES", 2_000_000)
    large = JPEG + bytes(2_000_000)
    path = tmp_path / f"a.{suffix}"
    if suffix == "tar":
        write_tar(path, member("a.jpg", large), member("b.jpg"))
    else:
        write_zip(path, {"a.jpg": large, "b.jpg": JPEG}, compression=zipfile.ZIP_DEFLATED)
    items, failures = read_all(path)
    assert (list(items), failures) == ([b"b.jpg"], {b"a.jpg": "it is larger than 2 MB"})
    with pytest.raises(DecodeError, match="larger than 2 MB"):
        build(path).read(b"a.jpg")


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_archive_bomb_ends_early_and_says_so(tmp_path, monkeypatch, suffix):
    for module in (_archives, _tar):
        monkeypatch.setattr(module, "BASE_MAX_BYTES", 5 << 20)
    names = [f"{number}.jpg" for number in range(30)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "zip":
        write_zip(path, dict.fromkeys(names, bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED)
    else:
        with tarfile.open(path, f"w:{suffix[4:]}") as tar:
            for name in names:
                info, content = member(name, bytes(1 << 20))
                tar.addfile(info, io.BytesIO(content))
    items, failures = read_all(path)
    assert 0 < len(items) < 30
    assert list(failures.values()) == [
        "it expands to more than 200 times its size, as no archive of pictures does"
    ]


def test_archive_tar_with_a_large_extended_header_is_refused(tmp_path):
    info, content = member("b.jpg")
    info.pax_headers = {"comment": "x" * 100_000}
    path = write_tar(tmp_path / "a.tar", member("a.jpg"), (info, content))
    items, failures = read_all(path)
    assert list(items) == [b"a.jpg"]
    assert list(failures.values()) == ["the header of a member is too large"]


def test_archive_sparse_member_is_a_failure(tmp_path):
    info, _ = member("a.jpg", b"")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    tail = write_tar(tmp_path / "b.tar", member("b.jpg")).read_bytes()
    (tmp_path / "a.tar").write_bytes(bytes(header) + tail)
    items, failures = read_all(tmp_path / "a.tar")
    assert list(items) == [b"b.jpg"]
    assert len(failures) == 1


# --- damage ---


def test_archive_truncated_tar_counts_what_came_before(tmp_path):
    members = [member(f"{number}.jpg", JPEG * 50) for number in range(10)]
    content = write_tar(tmp_path / "a.tar", *members).read_bytes()
    sizes = set()
    for end in range(0, 15_800, 100):
        (tmp_path / "b.tar").write_bytes(content[:end])
        source = build(tmp_path / "b.tar")
        (part,) = source.parts()
        found = list(source.items(part))
        last = found[-1]
        assert isinstance(last, SourceFailure)
        assert last.ends_part
        assert [item.key for item in found[:-1]] == [b"%d.jpg" % n for n in range(len(found) - 1)]
        assert all(item.load() == JPEG * 50 for item in found[:-1])
        sizes.add(len(found))
    assert sizes == set(range(1, 12))


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz"])
def test_archive_truncated_compressed_tar_ends_the_part(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with tarfile.open(path, f"w:{suffix[4:]}") as tar:
        for number in range(20):
            info, content = member(f"{number}.jpg", JPEG + bytes(range(256)) * number)
            tar.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    items, failures = read_all(path)
    assert len(items) < 20
    assert len(failures) == 1


def test_archive_in_several_streams_of_gzip_is_read_whole(tmp_path):
    import gzip

    plain = write_tar(tmp_path / "a.tar", *(member(f"{n}.jpg") for n in range(5))).read_bytes()
    path = tmp_path / "b.tar.gz"
    path.write_bytes(
        b"".join(gzip.compress(plain[at : at + 700]) for at in range(0, len(plain), 700))
    )
    items, failures = read_all(path)
    assert (len(items), failures) == (5, {})


def test_archive_that_is_none_is_one_failure(tmp_path):
    for name in ("a.tar", "a.zip", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"no archive at all" * 100)
        items, failures = read_all(tmp_path / name)
        assert items == {}
        assert list(failures.values()) == ["the archive is damaged"]


def test_archive_zip_with_a_flipped_byte_fails_when_it_is_loaded(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.jpg": JPEG * 1000, "b.jpg": JPEG})
    content = bytearray(path.read_bytes())
    content[content.index(JPEG) + 9000] ^= 1
    path.write_bytes(content)
    items, _ = read_all(path)
    with pytest.raises(DecodeError, match="the archive is damaged"):
        items[b"a.jpg"].load()
    assert items[b"b.jpg"].load() == JPEG


# --- files ---


def test_archive_pattern_names_each_file(tmp_path):
    for number in range(8, 12):
        write_tar(tmp_path / f"{number:03d}.tar", member(f"{number}.jpg"))
    source = build(tmp_path / "{008..011}.tar")
    assert [part.key for part in source.parts()] == [b"%03d.tar" % n for n in range(8, 12)]
    assert source.read(b"010.tar/10.jpg") == JPEG
    assert source.exists(b"010.tar/11.jpg") is False


def test_archive_missing_or_folder_is_a_source_error(tmp_path):
    write_tar(tmp_path / "0.tar", member("a.jpg"))
    with pytest.raises(SourceError, match="no such file"):
        build(tmp_path / "{0..1}.tar")
    (tmp_path / "b.tar").mkdir()
    with pytest.raises(SourceError, match="is a folder"):
        build(tmp_path / "b.tar")
    with pytest.raises(SourceError, match="more than 1,000,000 names"):
        build(tmp_path / "{0..999999999}.tar")


def test_archive_that_goes_away_while_it_is_read_is_a_failure(tmp_path):
    path = write_tar(tmp_path / "a.tar", member("a.jpg"))
    source = build(path)
    (part,) = source.parts()
    path.unlink()
    (failure,) = source.items(part)
    assert failure.ends_part
    with pytest.raises(SourceError, match="cannot be read"):
        list(source.parts())
    with pytest.raises(DecodeError, match="no such file"):
        source.read(b"a.jpg")
    assert source.exists(b"a.jpg") is None


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_archive_read_finds_each_member_again_after_a_change(tmp_path, name):
    def write(contents):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
            for key, content in contents.items():
                info, _ = member(key, content)
                tar.addfile(info, io.BytesIO(content))

    contents = {f"{number}.jpg": JPEG * number for number in range(1, 20)}
    write(contents)
    source = build(tmp_path / name)
    for key in reversed(contents):
        assert source.read(key.encode()) == contents[key]
        assert source.exists(key.encode())
    write({key: contents[key] + b"!" for key in list(contents)[3:]})
    assert source.read(b"9.jpg") == contents["9.jpg"] + b"!"
    assert source.exists(b"1.jpg") is False
    with pytest.raises(DecodeError, match="no such member"):
        source.read(b"1.jpg")


def test_archive_is_read_from_several_threads(write):
    from concurrent.futures import ThreadPoolExecutor

    contents = {f"{number}.jpg": JPEG * (number + 1) for number in range(40)}
    source = build(write(contents))
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(source.read, [name.encode() for name in contents] * 3)
        assert list(found) == list(contents.values()) * 3
