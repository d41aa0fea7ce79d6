"""PDF documents written by hand, for tests."""


def words(*lines):
    """Return the content of a page with lines of words."""
    shown = " ".join(f"({line}) Tj T*" for line in lines)
    return f"BT /F1 12 Tf 14 TL 20 {20 + 14 * len(lines)} Td {shown} ET".encode("latin-1")


def pdf(pages, *, info="", size=(612, 792), head=b"%PDF-1.4\n", extra=(), trailer=""):
    """Return a document.

    Args:
        pages: Contents of the pages; None is a page that cannot be read.
        info: Entries of the dictionary of facts, such as ``/Title(Manual)``.
        size: Width and height of the pages in points.
        head: First bytes.
        extra: Other objects, which follow the others.
        trailer: More entries of the trailer.
    """
    first = 5
    numbers = [f"{first + 2 * place} 0 R" for place in range(len(pages))]
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{' '.join(numbers)}]/Count {len(pages)}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        f"<<{info}>>".encode("latin-1"),
    ]
    for place, content in enumerate(pages):
        if content is None:
            objects += [b"<</Type/Nothing>>", b"null"]
            continue
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Resources<</Font<</F1 3 0 R>>>>"
            b"/Contents %d 0 R>>" % (*size, first + 2 * place + 1),
            b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        ]
    objects += extra
    out, places = head, []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    size = len(objects) + 1
    end = f"trailer<</Size {size}/Root 1 0 R/Info 4 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n"
    return out + end.encode("latin-1")
