"""Weights of texts: what a text of each kind says about the picture that has it."""

from __future__ import annotations

import numpy as np

KIND_EVIDENCE = {
    "caption": 2.8,
    "description": 2.1,
    "title": 3.5,
    "keywords": 3.5,
    "people": 3.5,
    "place": 3.5,
    "filename": 2.8,
    "folder": 0.2,
    "ocr": 3.5,
    "transcript": 2.1,
    "tag": 0.2,
    "machine caption": 1.4,
}
"""Evidence of a text that holds all words of a query, if they are rare, in nats.

Fitted on tests/photos, of which a fifth has the text of another picture (benchmarks/results/words).
The same share of wrong names was assumed for files. Names of people and places count as keywords
do, those of folders hardly: there, no folder said what its pictures show. Not fitted: what is
written in a picture counts as its title does, and tags hardly, since its vector says the same.
A caption by a model counts half of a caption by a person: it may be wrong."""

OTHER_EVIDENCE = 2.1
"""`KIND_EVIDENCE` of other kinds of text."""

FULL_SCORE_EVIDENCE = 2.8
"""`KIND_EVIDENCE` from which a kind of text counts fully in scores."""

_KINDS = tuple(KIND_EVIDENCE)
NUM_CODES = 16
"""Number of codes of kinds; `KIND_CODE` is below it."""

WEIGHED_KIND = "CASE WHEN texts.source = 'captions' THEN 'machine caption' ELSE texts.kind END"
"""SQL expression for the kind of a text in `KIND_EVIDENCE`; ``folder`` is found later."""

KIND_CODE = (
    f"CASE {WEIGHED_KIND} "
    + " ".join(f"WHEN '{kind}' THEN {code}" for code, kind in enumerate(_KINDS))
    + f" ELSE {len(_KINDS)} END"
)
"""SQL expression for the code of a text's kind, which `CODE_EVIDENCE` is indexed by."""

CODE_EVIDENCE = np.array([*KIND_EVIDENCE.values(), OTHER_EVIDENCE])
"""Evidence of each kind by its code, in nats, float64 (codes,)."""


def text_evidence(kind: str) -> float:
    """Return the evidence of a text that holds all words of a query, in nats.

    Args:
        kind: `WEIGHED_KIND` of the text.
    """
    return KIND_EVIDENCE.get(kind, OTHER_EVIDENCE)
