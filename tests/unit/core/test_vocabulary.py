import os
import pickle
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsearch
from mmsearch.core import errors, plugins
from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, MissingExtraError, MMSearchError, UnknownNameError
from mmsearch.core.files import hash_source_file, open_source_file
from mmsearch.core.types import EncoderSpec


def subclasses(kind):
    return {kind} | {leaf for child in kind.__subclasses__() for leaf in subclasses(child)}


def test_error_classes_have_docs_entry_exit_code_and_http_status():
    for kind in subclasses(MMSearchError):
        assert kind.__name__ in errors.__doc__
        assert kind.exit_code in (1, 2, 3, 4)
        assert 400 <= kind.http_status < 600


def test_error_after_pickling_keeps_message_hint_and_details():
    error = pickle.loads(  # noqa: S301 - a worker process sends it
        pickle.dumps(DecodeError("it is bad", "Try another.", transient=True))
    )
    assert str(error) == "it is bad Try another."
    assert error.details == {"transient": True}


def test_package_dir_equals_all_and_unknown_name_raises_error():
    assert set(mmsearch.__all__) == {name for name in dir(mmsearch) if hasattr(mmsearch, name)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mmsearch.nothing  # noqa: B018


def test_import_mmsearch_loads_no_heavy_libraries():
    program = (
        "import sys, mmsearch; "
        "print(sorted({'torch', 'faiss', 'numpy', 'sqlalchemy', 'PIL'} & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert completed.stdout.strip() == b"[]"


@given(st.binary().filter(lambda path: b"\0" not in path))
def test_display_path_any_bytes_gives_one_printable_line(path):
    displayed = display_path(path)
    assert displayed.isprintable()
    assert displayed.encode("utf-8").decode() == displayed


def test_display_path_keeps_printable_and_escapes_other_bytes():
    assert display_path(b"/photos/caf\xc3\xa9 1.jpg") == "/photos/café 1.jpg"
    assert display_path(b"/a\nb\xe9\x1b") == "/a\\nb\\xe9\\x1b"


SPEC = EncoderSpec("a", 8, "0" * 64, {"size": 8}, 1, 77)


def test_encoder_fingerprint_depends_on_every_field_except_name():
    assert replace(SPEC, name="b").fingerprint == SPEC.fingerprint
    for change in (
        {"dim": 9},
        {"weights_sha256": "1" * 64},
        {"preprocessing": {"size": 9}},
        {"code_version": 2},
        {"context_length": 78},
    ):
        assert replace(SPEC, **change).fingerprint != SPEC.fingerprint


def test_load_plugin_unknown_name_raises_error_listing_known_names():
    with pytest.raises(UnknownNameError, match=r"no fusion named 'x'. Known: .*image"):
        plugins.load("fusions", "x")
    with pytest.raises(UnknownNameError, match="no vector index named"):
        plugins.load("vector_indexes", "x")


def test_load_plugin_missing_library_raises_error_naming_package(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'thing'", name="thing.part")

    known = plugins.names("fusions")
    monkeypatch.setattr(plugins, "names", lambda folder: known)
    monkeypatch.setattr(plugins.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match="needs the Python package 'thing'"):
        plugins.load("fusions", "image")


def test_open_source_file_accepts_only_existing_regular_files(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "file").write_bytes(b"abc")
    for name, reason in (
        ("fifo.jpg", "not a regular file"),
        ("absent", "no such file"),
        ("nul\0", "not a valid file name"),
    ):
        with pytest.raises(DecodeError, match=reason):
            open_source_file(os.fsencode(tmp_path / name))
    with pytest.raises(DecodeError, match=r"regular|directory"):
        open_source_file(os.fsencode(tmp_path))
    with open_source_file(os.fsencode(tmp_path / "file")) as file:
        assert stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    assert hash_source_file(os.fsencode(tmp_path / "file")).hex().startswith("ba7816bf8f01cfea")
