"""Sphinx configuration of the documentation; `scripts/docs` builds it into build/docs."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

import mmsearch

DOCS = Path(__file__).parent
REPOSITORY = "https://github.com/mmsearch/mmsearch"
PAGES_OF_RESULTS = {f"reference/python-{page}" for page in ("index", "results", "errors")}
"""Pages with classes that users receive, never create: shown without the constructor."""

RELATIVE_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)")

project = "mmsearch"
author = copyright = "The mmsearch authors"  # noqa: A001 - Sphinx's name
version = release = mmsearch.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False
# Docstrings write code in single backticks: a link if the name is documented.
default_role = "py:obj"
# They would turn --option into a dash.
smartquotes = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "mmsearch"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
html_copy_source = False


def link_outside_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Point links to files of the repository outside docs/ to their addresses on GitHub."""

    def address(link: re.Match[str]) -> str:
        target = (DOCS / page).parent.joinpath(link.group()).resolve()
        if target.is_relative_to(DOCS):
            return link.group()
        return f"{REPOSITORY}/blob/main/{target.relative_to(DOCS.parent)}"

    source[0] = RELATIVE_LINK.sub(address, source[0])


def edit_signature(
    app: Sphinx, kind: str, name: str, item: object, options: object, signature: str | None, *_: str
) -> tuple[str, str] | None:
    """Hide the constructors of classes that users receive; make other defaults readable."""
    if kind in ("class", "exception") and app.env.docname in PAGES_OF_RESULTS:
        return "", ""
    # Sphinx cannot parse the default of a field that has a factory.
    return (signature.replace("<factory>", "..."), "") if signature and kind == "class" else None


def set_dashes(app: Sphinx, document: nodes.document) -> None:
    """Write the dash between a parameter and its meaning, as `smartquotes` would."""
    for text in list(document.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))  # noqa: RUF001


def setup(app: Sphinx) -> None:
    """Connect the hooks of this file."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("source-read", link_outside_pages)
    app.connect("autodoc-process-signature", edit_signature)
    app.connect("doctree-read", set_dashes)
