"""Indexes as somebody might hand them over: sound ones, changed past what writes them."""

import logging
import os
import shutil
import sqlite3
import sys
from contextlib import closing

from PIL import Image

from mmsearch.catalog import checksum
from mmsearch.cli.main import run
from mmsearch.core.requests import IndexRequest
from mmsearch.storage.layout import IndexLayout
from tests.toy import toy_indexer

TOYS = ("one", "two", "three")


def make_index(home, name="default"):
    """A sound index of toy pictures in ``home``, with a built vector index."""
    photos = home.parent / "photos"
    photos.mkdir(exist_ok=True)
    for toy in TOYS:
        (photos / f"{toy}.toy").write_text(toy)
    layout = IndexLayout.of(home, name)
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(os.fsencode(photos)))
    return layout


def change_catalog(layout, *statements):
    """Change rows of a catalog, and seal it again as if nothing had happened.

    ``statements`` are texts, or pairs of a text and its values.
    """
    with closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(*((statement,) if isinstance(statement, str) else statement))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = checksum.read_seal(layout.catalog)
    checksum.close_seal(layout.catalog, before.roots if before else ())


def name_file(layout, path, image_id=1, root=b"/", digest=None):
    """Let a catalog say that a file of this machine is a picture of its own."""
    facts = path.stat()
    place = os.fsencode(path).removeprefix(root.rstrip(b"/") + b"/")
    values = [place, facts.st_size, facts.st_mtime_ns, image_id]
    digests = [] if digest is None else [digest, image_id]
    statements = [
        ("UPDATE roots SET path = ?", [root]),
        ("UPDATE files SET path = ?, size = ?, mtime_ns = ? WHERE image_id = ?", values),
    ]
    if digest is not None:
        statements.append(("UPDATE images SET digest = ? WHERE id = ?", digests))
        statements.append(("UPDATE files SET digest = ? WHERE image_id = ?", digests))
    change_catalog(layout, *statements)


def link_away(path, target):
    """Put a link in the place of a file or a folder, to a copy of it elsewhere."""
    if path.is_dir():
        shutil.copytree(path, target)
        shutil.rmtree(path)
    elif path.exists():
        shutil.copy(path, target)
        path.unlink()
    else:
        target.write_bytes(b"")
    path.symlink_to(target)


def tree(folder):
    """What lies below a folder: names, links, contents and times of change."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(place, name)
            facts = os.lstat(path)
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, folder)] = (facts.st_mode, facts.st_mtime_ns, content)
    return found


def run_command(monkeypatch, *arguments):
    """Run the command in this process; its exit code. What it does to logging is undone."""
    given = [str(argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["mmsearch", *given])
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    try:
        return run(given)
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers


def write_picture(path, colour="red"):
    """A small picture in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), colour).save(path)
    return path
