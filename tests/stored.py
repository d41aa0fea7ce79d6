"""What an index holds, read straight from its files: past the searches that are tested."""

from mmsearch.core.segments import read_segment


def stored_files(layout, catalog):
    """By path below its root: what the catalog says of a file, and the vector of its picture."""
    rows = {}
    for segment in catalog.segments():
        held = read_segment(layout, segment)
        rows |= dict(zip(held.ids.tolist(), held.images, strict=True))
    return {
        path: (file, rows.get(file.image_id))
        for root in catalog.roots()
        for path, file in catalog.known_files(root.id, b"").items()
    }
