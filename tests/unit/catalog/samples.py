"""Small shards to commit to a catalog."""

import hashlib

from mmsearch.core.identity import Identity
from mmsearch.core.records import (
    BuiltVectorIndex,
    EncodedPicture,
    FileRef,
    IndexedFile,
    ScannedFile,
    Segment,
    ShardCommit,
)
from mmsearch.core.types import EncoderSpec, FusionSpec, Picture, Text

IDENTITY = Identity(
    EncoderSpec("starter", 384, "ab12", {"edge_px": 260, "mean": [0.5]}, 1, 128),
    FusionSpec("weighted", 0.2, {"title": 2.0}),
    "exact",
)


def digest_of(content):
    return hashlib.sha256(content.encode()).digest()


def seen(path, size=100, mtime_ns=7):
    return ScannedFile(path, size, mtime_ns)


def picture(number, content, *texts):
    facts = Picture(
        640,
        480,
        "JPEG",
        taken_at="2020-05-17T10:11:12",
        texts=tuple(Text(*text) for text in texts),
    )
    return EncodedPicture(number, digest_of(content), facts)


def segment(number, rows):
    return Segment(
        number, FileRef(f"segments/{number:06d}.vectors", 1000, f"{number:064x}"), rows, 8
    )


def built(covers, number=1):
    file_ref = FileRef(f"ann/{number:06d}.faiss", 99, "f" * 64)
    return BuiltVectorIndex("faiss_flat", file_ref, 3, covers, {"recall": 1.0})


def encoded(catalog, root, files, *, checked_ns=1, removed=(), failed=()):
    """A shard of new pictures; ``files`` maps paths to contents."""
    number, segment_number = catalog.next_free_ids()
    contents = sorted(set(files.values()))
    pictures = [picture(number + position, content) for position, content in enumerate(contents)]
    return ShardCommit(
        root_id=root.id,
        checked_ns=checked_ns,
        segment=segment(segment_number, len(pictures)) if pictures else None,
        pictures=pictures,
        indexed=[IndexedFile(seen(path), digest_of(content)) for path, content in files.items()],
        removed=removed,
        failed=failed,
    )


def indexed(root, files, *, checked_ns=2, removed=()):
    """A shard of known pictures at other paths."""
    return ShardCommit(
        root_id=root.id,
        checked_ns=checked_ns,
        indexed=[IndexedFile(seen(path), digest_of(content)) for path, content in files.items()],
        removed=removed,
    )


def state(catalog):
    """Return the observable state of a catalog, except times and the generation."""
    with catalog.snapshot() as snapshot:
        known = range(1, catalog.next_free_ids()[0])
        return (
            snapshot.records(known),
            snapshot.deleted_ids.tolist(),
            snapshot.pictures,
            snapshot.built,
            snapshot.unindexed_segments,
            catalog.roots(),
            [catalog.list_files_under(root.id, b"") for root in catalog.roots()],
            catalog.failures(),
            catalog.segments(),
            catalog.file_count(),
            catalog.referenced_files(),
            catalog.next_free_ids(),
        )


def generation(catalog):
    """Return the number of the newest generation."""
    with catalog.snapshot() as snapshot:
        return snapshot.generation
