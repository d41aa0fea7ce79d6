"""Office files: small packages with the parts that office programs write."""

import io
import zipfile
from xml.sax.saxutils import escape

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def package(parts, *, compression=zipfile.ZIP_DEFLATED):
    """Return a zip archive of parts, by name; a part may be text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else compression
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def relations(*rows):
    """Return a part of relations: type, target, and the mode if the target is external."""
    entries = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/{kind}" Target="{target}"'
        + (f' TargetMode="{mode[0]}"/>' if mode else "/>")
        for number, (kind, target, *mode) in enumerate(rows, start=1)
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{entries}</Relationships>'


def core_properties(**values):
    """Return the part of properties: title, creator, subject, keywords and created."""
    names = {"keywords": "cp:keywords", "created": "dcterms:created"}
    fields = "".join(
        f"<{names.get(name, f'dc:{name}')}>{escape(value)}</{names.get(name, f'dc:{name}')}>"
        for name, value in values.items()
    )
    return (
        f'<cp:coreProperties xmlns:cp="{PACKAGE}/metadata/core-properties"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/">'
        f"{fields}</cp:coreProperties>"
    )


def word_part(*paragraphs, raw=""):
    """Return the main part of a text."""
    body = "".join(f"<w:p><w:r><w:t>{escape(text)}</w:t></w:r></w:p>" for text in paragraphs)
    return f'<w:document xmlns:w="{WORD}"><w:body>{body}{raw}</w:body></w:document>'


def docx_parts(*paragraphs, raw="", **properties):
    """Return the parts of a text, by name."""
    return {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relations(
            ("officeDocument", "word/document.xml"),
            ("metadata/core-properties", "docProps/core.xml"),
        ),
        "docProps/core.xml": core_properties(**properties),
        "word/document.xml": word_part(*paragraphs, raw=raw),
    }


def docx(*paragraphs, raw="", **properties):
    """Return a text for Word."""
    return package(docx_parts(*paragraphs, raw=raw, **properties))


def slide_part(*paragraphs):
    """Return a slide, or the notes of one."""
    body = "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in paragraphs)
    return (
        f'<p:sld xmlns:p="{SLIDES}" xmlns:a="{DRAWING}"><p:cSld><p:spTree><p:sp><p:txBody>{body}'
        '<a:p><a:fld type="slidenum"><a:t>99</a:t></a:fld></a:p>'
        "</p:txBody></p:sp></p:spTree></p:cSld></p:sld>"
    )


def pptx_parts(*slides, notes=None, **properties):
    """Return the parts of slides, by name; their files are numbered backwards.

    Args:
        slides: The paragraphs of each slide.
        notes: Notes of the speaker by number of the slide, from 0.
        properties: See `core_properties`.
    """
    count = len(slides)
    entries = "".join(f'<p:sldId id="{256 + n}" r:id="rId{n + 1}"/>' for n in range(count))
    parts = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relations(
            ("officeDocument", "ppt/presentation.xml"),
            ("metadata/core-properties", "docProps/core.xml"),
        ),
        "docProps/core.xml": core_properties(**properties),
        "ppt/presentation.xml": (
            f'<p:presentation xmlns:p="{SLIDES}" xmlns:r="{OFFICE}"><p:sldIdLst>{entries}'
            "</p:sldIdLst></p:presentation>"
        ),
        "ppt/_rels/presentation.xml.rels": relations(
            *(("slide", f"slides/slide{count - n}.xml") for n in range(count))
        ),
    }
    for number, paragraphs in enumerate(slides):
        name = f"slide{count - number}.xml"
        parts[f"ppt/slides/{name}"] = slide_part(*paragraphs)
        if notes and number in notes:
            parts[f"ppt/slides/_rels/{name}.rels"] = relations(
                ("notesSlide", f"../notesSlides/notes{number}.xml"),
                ("hyperlink", "file:///etc/passwd", "External"),
            )
            parts[f"ppt/notesSlides/notes{number}.xml"] = slide_part(notes[number])
    return parts


def pptx(*slides, notes=None, **properties):
    """Return slides for PowerPoint."""
    return package(pptx_parts(*slides, notes=notes, **properties))


def odf(kind, body, meta=""):
    """Return a text or a presentation in the format OpenDocument, given the XML of its body."""
    names = (
        "".join(
            f' xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{prefix}:1.0"'
            for prefix in ("office", "text", "meta", "presentation")
        )
        + ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
    )
    names += ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    return package(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": (
                f"<office:document-content{names}><office:body><office:{kind}>{body}"
                f"</office:{kind}></office:body></office:document-content>"
            ),
            "meta.xml": (
                f"<office:document-meta{names}><office:meta>{meta}</office:meta>"
                "</office:document-meta>"
            ),
        }
    )
