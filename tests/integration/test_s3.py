"""Photographs in S3, on moto's server on this machine: one object each, in tars, in a zip."""

import hashlib
import io
import sys

import pytest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.sources import SourceFailure, load_items
from mmsearch.factories.sources import open_source
from tests.s3_server import make_bucket, s3_server, use_test_credentials
from tests.source_samples import MODALITIES, read_photos, write_tar

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

pytestmark = [
    pytest.mark.enable_socket,
    # botocore and aiobotocore use what later versions of Python deprecate.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    use_test_credentials(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def contents(photos):
    return read_photos(photos)


@pytest.fixture
def bucket(endpoint, contents):
    client = make_bucket(endpoint, "photos")
    for name, content in contents.items():
        client.put_object(Bucket="photos", Key=f"one/by one/{name}", Body=content)
    client.put_object(Bucket="photos", Key="one/", Body=b"")
    for shard in (0, 1):
        tar = io.BytesIO()
        write_tar(tar, {name: contents[name] for name in list(contents)[shard::2]})
        client.put_object(Bucket="photos", Key=f"tars/{shard}.tar", Body=tar.getvalue())
    yield client
    for entry in client.list_objects_v2(Bucket="photos")["Contents"]:
        client.delete_object(Bucket="photos", Key=entry["Key"])
    client.delete_bucket(Bucket="photos")


def digests(source):
    found = {}
    for part in source.parts():
        for loaded in load_items(source, source.items(part)):
            assert not isinstance(loaded, SourceFailure), loaded
            item, content = loaded
            assert source.read(item.key) == content
            assert source.exists(item.key)
            found[item.key] = hashlib.sha256(content).digest()
    return found


def test_s3_objects_and_tars_have_the_contents_of_the_folder(bucket, contents, endpoint):
    names = list(contents)
    expected = [hashlib.sha256(content).digest() for content in contents.values()]
    source = open_source("s3://photos/one/", MODALITIES, endpoint=endpoint)
    assert digests(source) == {
        f"by one/{name}".encode(): digest for name, digest in zip(names, expected, strict=True)
    }
    for pattern in ("*", "{0..1}"):
        uri = f"s3://photos/tars/{pattern}.tar"
        source = open_source(uri, MODALITIES, endpoint=endpoint)
        assert digests(source) == {
            f"{number % 2}.tar/{name}".encode(): digest
            for number, (name, digest) in enumerate(zip(names, expected, strict=True))
        }


def test_s3_replaced_object_changes_its_stamp_and_that_of_its_part(bucket, contents, endpoint):
    def stamps():
        source = open_source("s3://photos/one", MODALITIES, endpoint=endpoint)
        (part,) = source.parts()
        return part.stamp, {item.key: item.stamp for item in source.items(part)}

    part, items = stamps()
    assert stamps() == (part, items)
    name = next(iter(contents))
    content = bytearray(contents[name])
    content[-1] ^= 1
    bucket.put_object(Bucket="photos", Key=f"one/by one/{name}", Body=bytes(content))
    changed_part, changed_items = stamps()
    assert changed_part != part
    assert [key for key in items if changed_items[key] != items[key]] == [f"by one/{name}".encode()]


def test_s3_unknown_bucket_key_and_server_are_plain_errors(bucket, endpoint):
    source = open_source("s3://photos/one", MODALITIES, endpoint=endpoint)
    assert source.exists(b"missing.jpg") is False
    with pytest.raises(DecodeError, match="no such object"):
        source.read(b"missing.jpg")
    with pytest.raises(SourceError, match="cannot be listed"):
        list(open_source("s3://absent/one", MODALITIES, endpoint=endpoint).parts())
    with pytest.raises(SourceError, match="cannot be read"):
        list(open_source("s3://photos/absent.tar", MODALITIES, endpoint=endpoint).parts())
    with pytest.raises(SourceError, match="Nothing matches"):
        open_source("s3://photos/absent/*.tar", MODALITIES, endpoint=endpoint)


def test_s3_import_of_mmsearch_does_not_import_its_library():
    import subprocess

    code = "import sys, mmsearch.sources.remote; assert not {'fsspec', 's3fs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
