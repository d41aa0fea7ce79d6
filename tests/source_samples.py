"""The same photographs in every kind of source."""

import csv
import io
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass, field

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mmsearch.core.settings import Settings
from mmsearch.core.sources import SourceFailure, SourceItem
from mmsearch.factories.plugins import make_modalities
from mmsearch.factories.sources import open_source

MODALITIES = make_modalities(Settings())
COUNT = 6


@dataclass
class Sample:
    """A source with photographs.

    Attributes:
        uri: Path or URI.
        names: Name of the photograph of each key.
        choices: Choices of the source.
        captions: True if each item has the caption ``caption of NAME``.
        change: Replaces the first photograph by the bytes ``changed``; None if it cannot change.
        missing: A key that the source does not have, in the form of its keys.
    """

    uri: str
    names: dict[bytes, str]
    choices: dict = field(default_factory=dict)
    captions: bool = True
    change: object = None
    missing: bytes = b"missing.jpg"

    def open(self):
        return open_source(self.uri, MODALITIES, **self.choices)


def collect_items(source):
    """Return the items of a source and the reasons of its failures, both by key; close it."""
    found = [item for part in source.parts() for item in source.items(part)]
    source.close()
    items = {item.key: item for item in found if isinstance(item, SourceItem)}
    failures = {item.key: item.reason for item in found if isinstance(item, SourceFailure)}
    return items, failures


def photo_names(photos):
    return sorted(path.name for path in (photos / "photos").glob("*.jpg"))[:COUNT]


def read_photos(photos):
    return {name: (photos / "photos" / name).read_bytes() for name in photo_names(photos)}


def caption(name):
    return f"caption of {name}"


def write_tar(file, contents, mode="w", *, captions=True):
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in contents.items():
            members = {name: content}
            if captions:
                members[os.path.splitext(name)[0] + ".txt"] = caption(name).encode()
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def write_webdataset(file, contents, start):
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, (name, content) in enumerate(contents.items(), start):
            values = {"caption": caption(name), "width": 640}
            for suffix, data in (("jpg", content), ("json", json.dumps(values).encode())):
                info = tarfile.TarInfo(f"{number:09d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def _first_changed(contents):
    return {**contents, next(iter(contents)): b"changed"}


def archive_zip(folder, contents, server):
    path = folder / "photos.zip"

    def write(contents):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
                archive.writestr(name + ".txt", caption(name))

    write(contents)
    names = {name.encode(): name for name in contents}
    return Sample(str(path), names, change=lambda: write(_first_changed(contents)))


def _tar(suffix, mode):
    def make(folder, contents, server):
        path = folder / f"photos.tar{suffix}"

        def write(contents):
            with path.open("wb") as file:
                write_tar(file, contents, mode)

        write(contents)
        names = {name.encode(): name for name in contents}
        return Sample(str(path), names, change=lambda: write(_first_changed(contents)))

    return make


def archive_zstd(folder, contents, server):
    path, plain = folder / "photos.tar.zst", io.BytesIO()
    write_tar(plain, contents)
    path.write_bytes(zstandard.compress(plain.getvalue()))
    return Sample(str(path), {name.encode(): name for name in contents})


def archive_webdataset(folder, contents, server):
    half = COUNT // 2
    names = list(contents)
    for shard, chosen in enumerate((names[:half], names[half:])):
        with (folder / f"{shard:05d}.tar").open("wb") as file:
            write_webdataset(file, {name: contents[name] for name in chosen}, shard * half)
    keys = {
        f"{number // half:05d}.tar/{number:09d}.jpg".encode(): name
        for number, name in enumerate(names)
    }
    return Sample(str(folder / "{00000..00001}.tar"), keys, missing=b"00001.tar/000000099.jpg")


def _write_photos(folder, contents):
    (folder / "images").mkdir()
    for name, content in contents.items():
        (folder / "images" / name).write_bytes(content)


def table_paths_csv(folder, contents, server):
    _write_photos(folder, contents)
    path = folder / "photos.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["File", "Caption", "Price"])
        rows.writerows([f"images/{name}", caption(name), "12.50"] for name in contents)
    first = next(iter(contents))
    return Sample(
        str(path),
        {f"images/{name}".encode(): name for name in contents},
        change=lambda: (folder / "images" / first).write_bytes(b"changed"),
    )


def table_paths_list(folder, contents, server):
    _write_photos(folder, contents)
    path = folder / "photos.txt"
    path.write_text("".join(f"images/{name}\n" for name in contents))
    keys = {f"images/{name}".encode(): name for name in contents}
    return Sample(str(path), keys, captions=False)


def table_paths_jsonl(folder, contents, server):
    _write_photos(folder, contents)
    path = folder / "photos.jsonl"
    rows = [
        {"sku": number, "path": f"images/{name}", "caption": caption(name)}
        for number, name in enumerate(contents)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {str(number).encode(): name for number, name in enumerate(contents)}
    return Sample(str(path), keys, {"id_column": "sku"}, missing=b"99")


def _serve(server, contents):
    server.answers.update({f"/photos/{name}": content for name, content in contents.items()})
    return {name: server.url(f"/photos/{name}") for name in contents}


def table_urls_csv(folder, contents, server):
    urls = _serve(server, contents)
    path = folder / "urls.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["url", "caption"])
        rows.writerows([urls[name], caption(name)] for name in contents)
    keys = {urls[name].encode(): name for name in contents}
    missing = server.url("/photos/missing.jpg").encode()
    return Sample(str(path), keys, {"allow_private": True}, missing=missing)


def table_urls_parquet(folder, contents, server):
    urls = _serve(server, contents)
    path = folder / "urls.parquet"
    columns = {
        "key": [f"{number:09d}" for number in range(len(contents))],
        "url": [urls[name] for name in contents],
        "caption": [caption(name) for name in contents],
        "similarity": [0.5] * len(contents),
    }
    pq.write_table(pa.table(columns), path, row_group_size=4)
    keys = {f"{number:09d}".encode(): name for number, name in enumerate(contents)}
    choices = {"id_column": "key", "allow_private": True}
    return Sample(str(path), keys, choices, missing=b"000000099")


def remote_objects(folder, contents, server):
    files = fsspec.filesystem("memory")
    root = f"/{folder.name}"
    for name, content in contents.items():
        files.pipe_file(f"{root}/images/{name}", content)
    files.pipe_file(f"{root}/README.md", b"# Photographs")
    first = next(iter(contents))
    return Sample(
        f"memory:/{root}",
        {f"images/{name}".encode(): name for name in contents},
        captions=False,
        change=lambda: files.pipe_file(f"{root}/images/{first}", b"changed"),
    )


def remote_tars(folder, contents, server):
    files = fsspec.filesystem("memory")
    root = f"/{folder.name}"
    for shard in (0, 1):
        content = io.BytesIO()
        write_tar(content, {name: contents[name] for name in list(contents)[shard::2]})
        files.pipe_file(f"{root}/{shard}.tar", content.getvalue())
    keys = {f"{number % 2}.tar/{name}".encode(): name for number, name in enumerate(contents)}
    return Sample(f"memory:/{root}/*.tar", keys, missing=b"1.tar/missing.jpg")


def remote_zip(folder, contents, server):
    archive_zip(folder, contents, server)
    root = f"/{folder.name}"
    content = (folder / "photos.zip").read_bytes()
    fsspec.filesystem("memory").pipe_file(f"{root}/photos.zip", content)
    names = {name.encode(): name for name in contents}
    return Sample(f"memory:/{root}/photos.zip", names)


def remote_web(folder, contents, server):
    _serve(server, contents)
    links = "".join(
        f'<a href="{name}">{name}</a> 2026-01-01 {len(content)}\n'
        for name, content in contents.items()
    )
    page = f'<html><a href="../">up</a><a href="https://other.example/a.jpg">x</a>{links}</html>'
    server.answers["/photos/"] = page.encode()
    keys = {name.encode(): name for name in contents}
    return Sample(server.url("/photos/"), keys, {"allow_private": True}, captions=False)


def remote_web_tar(folder, contents, server):
    content = io.BytesIO()
    write_tar(content, contents)
    server.answers["/photos.tar"] = content.getvalue()
    keys = {name.encode(): name for name in contents}
    return Sample(server.url("/photos.tar"), keys, {"allow_private": True})


def remote_web_zip(folder, contents, server):
    archive_zip(folder, contents, server)
    server.answers["/photos.zip"] = (folder / "photos.zip").read_bytes()
    keys = {name.encode(): name for name in contents}
    return Sample(server.url("/photos.zip"), keys, {"allow_private": True})


def with_features(table, **features):
    """Describe columns in a table as the library datasets does."""
    info = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": info})


def _dataset_table(contents):
    images = [{"bytes": content, "path": name} for name, content in contents.items()]
    labels = {"names": [f"label {number}" for number in range(COUNT)], "_type": "ClassLabel"}
    table = pa.table(
        {
            "image": pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "caption": [caption(name) for name in contents],
            "label": list(range(len(contents))),
        }
    )
    return with_features(table, image={"_type": "Image"}, label=labels)


def _write_arrow(path, table):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)


def write_dataset(folder, contents):
    """Write a split as ``datasets.save_to_disk`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = "data-00000-of-00001.arrow"
    _write_arrow(folder / file, _dataset_table(contents))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file}]}))
    return file


def dataset_arrow(folder, contents, server):
    file = write_dataset(folder / "set", contents)
    keys = {f"{file}/{number}".encode(): name for number, name in enumerate(contents)}
    return Sample(
        str(folder / "set"),
        keys,
        missing=f"{file}/99".encode(),
        change=lambda: write_dataset(folder / "set", _first_changed(contents)),
    )


def dataset_splits(folder, contents, server):
    names, keys = list(contents), {}
    for split, chosen in (("train", names[1:]), ("test", names[:1])):
        file = write_dataset(folder / "set" / split, {name: contents[name] for name in chosen})
        for number, name in enumerate(chosen):
            keys[f"{split}/{file}/{number}".encode()] = name
    (folder / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return Sample(str(folder / "set"), keys, missing=f"train/{file}/99".encode())


def dataset_parquet(folder, contents, server):
    (folder / "set" / "data").mkdir(parents=True)
    (folder / "set" / "dataset_info.json").write_text("{}")
    file = "data/train-00000-of-00001.parquet"
    pq.write_table(_dataset_table(contents), folder / "set" / file, row_group_size=4)
    keys = {str(number).encode(): name for number, name in enumerate(contents)}
    return Sample(str(folder / "set"), keys, {"id_column": "label"}, missing=b"99")


SAMPLES = {
    "archive": {
        "zip": archive_zip,
        "tar": _tar("", "w"),
        "tar.gz": _tar(".gz", "w:gz"),
        "tar.bz2": _tar(".bz2", "w:bz2"),
        "tar.xz": _tar(".xz", "w:xz"),
        "tar.zst": archive_zstd,
        "webdataset": archive_webdataset,
    },
    "dataset": {"arrow": dataset_arrow, "splits": dataset_splits, "parquet": dataset_parquet},
    "remote": {
        "objects": remote_objects,
        "tars": remote_tars,
        "zip": remote_zip,
        "web": remote_web,
        "web tar": remote_web_tar,
        "web zip": remote_web_zip,
    },
    "table": {
        "paths csv": table_paths_csv,
        "paths list": table_paths_list,
        "paths jsonl": table_paths_jsonl,
        "urls csv": table_urls_csv,
        "urls parquet": table_urls_parquet,
    },
}
"""Maps a plugin to functions that make its samples, by name."""

VARIANTS = [(kind, name) for kind, variants in SAMPLES.items() for name in variants]

CHANGING = [
    *(("archive", "zip"), ("archive", "tar"), ("archive", "tar.gz"), ("dataset", "arrow")),
    *(("remote", "objects"), ("table", "paths csv")),
]
"""Variants whose samples have `Sample.change`."""
