"""Indexes that an attacker might hand over: sound ones whose files are changed directly."""

import logging
import os
import shutil
import sqlite3
import sys
from contextlib import closing

from PIL import Image

from mmsearch.catalog import checksum
from mmsearch.cli.main import run
from mmsearch.core.results import IndexRequest
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import toy_indexer

TOYS = ("one", "two", "three")


def make_index(home, name="default"):
    """Make a sound index of toy pictures in ``home``, with a built vector index."""
    photos = home.parent / "photos"
    photos.mkdir(exist_ok=True)
    for toy in TOYS:
        (photos / f"{toy}.toy").write_text(toy)
    layout = IndexLayout.for_name(home, name)
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(os.fsencode(photos)))
    return layout


def change_catalog(layout, *statements):
    """Change rows of a catalog and renew its seal.

    ``statements`` are texts, or pairs of a text and its values.
    """
    with closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(*((statement,) if isinstance(statement, str) else statement))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = checksum.read_checksum(layout.catalog)
    checksum.mark_clean(layout.catalog, stored.roots if stored else {})


def point_catalog_at_file(layout, path, content_id=1, root=b"/", digest=None):
    """Change a catalog so that it lists a file of this machine as one of its pictures."""
    file_stat = path.stat()
    relative_path = os.fsencode(path).removeprefix(root.rstrip(b"/") + b"/")
    values = [relative_path, file_stat.st_size, file_stat.st_mtime_ns, content_id]
    digest_values = [] if digest is None else [digest, content_id]
    statements = [
        ("UPDATE sources SET uri = ?", [root]),
        ("UPDATE assets SET key = ?, size = ?, mtime_ns = ? WHERE content_id = ?", values),
    ]
    if digest is not None:
        statements.append(("UPDATE contents SET digest = ? WHERE id = ?", digest_values))
        statements.append(("UPDATE assets SET digest = ? WHERE content_id = ?", digest_values))
    change_catalog(layout, *statements)


def replace_with_symlink(path, target):
    """Replace a file or a folder by a link to a copy of it elsewhere."""
    if path.is_dir():
        shutil.copytree(path, target)
        shutil.rmtree(path)
    elif path.exists():
        shutil.copy(path, target)
        path.unlink()
    else:
        target.write_bytes(b"")
    path.symlink_to(target)


def snapshot_tree(folder):
    """Return mode, modification time and content of each entry below a folder, by path."""
    entries = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(parent, name)
            file_stat = os.lstat(path)
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    content = file.read()
            entries[os.path.relpath(path, folder)] = (
                file_stat.st_mode,
                file_stat.st_mtime_ns,
                content,
            )
    return entries


def run_command(monkeypatch, *arguments):
    """Run the command in this process; return its exit code and restore logging."""
    argv = [str(argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["mmsearch", *argv])
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    try:
        return run(argv)
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers


def write_picture(path, colour="red"):
    """Write a small picture in the format of the file's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), colour).save(path)
    return path
