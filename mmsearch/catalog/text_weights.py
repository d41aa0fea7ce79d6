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
    "page": 3.5,
    "subtitle": 3.5,
    "transcript": 3.5,
    "ocr": 3.5,
    "tag": 0.2,
    "machine caption": 1.4,
}
"""Evidence of a text that holds all words of a query, if they are rare, in nats.

Fitted on tests/photos, of which a fifth has the text of another picture (benchmarks/results/words).
The same share of wrong names was assumed for files. Names of people and places count as keywords
do, those of folders hardly: there, no folder said what its pictures show. What is written in a
picture or on a page and what is said in a film count as titles: the best of the settings that the
study of modules compares (benchmarks/quality/modules). Not fitted: tags count hardly, since the
vector of the picture says the same, and a caption by a model counts half of a caption by a person:
it may be wrong."""

OTHER_EVIDENCE = 2.1
"""`KIND_EVIDENCE` of other kinds of text."""

SURE_CONFIDENCE = 0.5
"""Confidence from which on a text counts fully, and below which it counts in proportion.

Less than the confidence of nearly all texts in pictures and lines of speech: words in lines of 0.7
are mostly right, and lines that count less come after the best look."""

FULL_SCORE_EVIDENCE = 2.8
"""`KIND_EVIDENCE` from which a kind of text counts fully in scores."""

NUM_CODES = 16
"""Number of codes of kinds; `KIND_CODE` is below it."""

WEIGHED_KIND = "CASE WHEN texts.source = 'captions' THEN 'machine caption' ELSE texts.kind END"
"""SQL expression for the kind of a text in `KIND_EVIDENCE`; ``folder`` is found later."""

KIND_CODE = (
    f"CASE {WEIGHED_KIND} "
    + " ".join(f"WHEN '{kind}' THEN {code}" for code, kind in enumerate(KIND_EVIDENCE))
    + f" ELSE {len(KIND_EVIDENCE)} END"
)
"""SQL expression for the code of a text's kind, which `CODE_EVIDENCE` is indexed by."""

CODE_EVIDENCE = np.array([*KIND_EVIDENCE.values(), OTHER_EVIDENCE])
"""Evidence of each kind by its code, in nats, float64 (codes,)."""


def text_evidence(kind: str, confidence: float | None) -> float:
    """Return the evidence of a text that holds all words of a query, in nats.

    Args:
        kind: `WEIGHED_KIND` of the text.
        confidence: `Text.confidence`.
    """
    share = 1.0 if confidence is None else min(confidence / SURE_CONFIDENCE, 1.0)
    return share * KIND_EVIDENCE.get(kind, OTHER_EVIDENCE)
