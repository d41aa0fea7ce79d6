"""Table of known open_clip models: licence, languages, size, cost and checksum."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

REFERENCE_PRODUCT_S: Final = 0.008
"""Processor time of `measure_slowness`'s product on the machine of `KnownModel.picture_ms`."""


@dataclass(frozen=True)
class KnownModel:
    """A model of open_clip whose weights are in a repository of the hub.

    Attributes:
        variant: ``ARCH/TAG``, its name in open_clip.
        dim: Dimension of its vectors.
        repository: Repository of the weights on the hub.
        summary: What it is good for, in a few words.
        licence: Licence of the weights.
        languages: Languages that it reads.
        download_bytes: Size of the weights file.
        compiled_bytes: Size of the compiled copy, about.
        picture_ms: Milliseconds to encode a picture with the compiled copy on one processor core
            of a small server (AMD EPYC, AVX2), about.
        revision: Commit of the repository that contains the weights of ``sha256``.
        sha256: Checksum of the weights file; None if it is not known: then the first download
            records what the hub states, and later ones are compared with that.
        research_only: True if the licence allows only research. Such a model is never a default.
        file: Name of the weights file.
    """

    variant: str
    dim: int
    repository: str
    summary: str
    licence: str
    languages: str
    download_bytes: int
    compiled_bytes: int
    picture_ms: int
    revision: str | None = None
    sha256: str | None = None
    research_only: bool = False
    file: str = "open_clip_model.safetensors"

    @property
    def name(self) -> str:
        """Name of the model as typed after ``--model``."""
        return f"open_clip:{self.variant}"


# Dimensions and repositories are those of open_clip's own lists. Checksums are those that public
# projects pin for the same file and revision.
RECOMMENDED: Final = KnownModel(
    "ViT-B-32-SigLIP2-256/webli",
    768,
    "timm/ViT-B-32-SigLIP2-256",
    "recommended: the best results for its speed",
    "Apache-2.0",
    "more than 100 languages",
    download_bytes=1_507_460_000,
    compiled_bytes=404_000_000,
    picture_ms=38,
    revision="cd1efb47643f2794413dd79ef24397c175032780",
    sha256="7cdccf256ee0e4a9908c365f8e1c88d5db171980a3350c214f5221d50f8d9927",
)

SMALL: Final = KnownModel(
    "ViT-B-32-256/datacomp_s34b_b86k",
    512,
    "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    "small: less to download and to keep",
    "MIT",
    "English",
    download_bytes=605_189_364,
    compiled_bytes=155_000_000,
    picture_ms=38,
    revision="4afec35ffe57a943d569ff7ee888061830164da8",
    sha256="92c26d60d3200ed5ed040dff31a8d19f8140648da8007216c25744c478deef27",
)

BEST: Final = KnownModel(
    "ViT-B-16-SigLIP2-256/webli",
    768,
    "timm/ViT-B-16-SigLIP2-256",
    "finer detail; two to three times the compute of the recommended one",
    "Apache-2.0",
    "more than 100 languages",
    download_bytes=1_500_970_000,
    compiled_bytes=404_000_000,
    picture_ms=97,
    sha256="97816a02002b8b0c41cb507e2cc250eb39ef4ea2a63d1b6e44490a2039cfcdda",
)

KNOWN_MODELS: Final = (
    RECOMMENDED,
    SMALL,
    BEST,
    KnownModel(
        "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        512,
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        "for Chinese and Japanese first; needs the package transformers",
        "MIT",
        "100 languages",
        download_bytes=1_460_000_000,
        compiled_bytes=370_000_000,
        picture_ms=29,
        file="open_clip_pytorch_model.bin",
    ),
    KnownModel(
        "ViT-B-32/laion2b_s34b_b79k",
        512,
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "the fastest of the common models; somewhat less accurate",
        "MIT",
        "English",
        download_bytes=605_150_000,
        compiled_bytes=155_000_000,
        picture_ms=29,
    ),
    KnownModel(
        "ViT-B-16/datacomp_xl_s13b_b90k",
        512,
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "finer detail in English",
        "MIT",
        "English",
        download_bytes=598_520_000,
        compiled_bytes=155_000_000,
        picture_ms=75,
    ),
    KnownModel(
        "ViT-L-14/datacomp_xl_s13b_b90k",
        768,
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "high accuracy in English; a GPU is recommended",
        "MIT",
        "English",
        download_bytes=1_710_540_000,
        compiled_bytes=435_000_000,
        picture_ms=345,
    ),
    KnownModel(
        "MobileCLIP2-S2/dfndr2b",
        512,
        "timm/MobileCLIP2-S2-OpenCLIP",
        "few parameters; on a CPU not faster than the others",
        "Apple AMLR, for research only",
        "English",
        download_bytes=397_700_000,
        compiled_bytes=250_000_000,
        picture_ms=240,
        research_only=True,
    ),
)


def find_known_model(variant: str) -> KnownModel | None:
    """Return the known model of a variant ``ARCH/TAG``, or None."""
    return next((model for model in KNOWN_MODELS if model.variant == variant), None)


def measure_slowness() -> float:
    """Return how many times longer a core of this machine takes than that of `picture_ms`.

    The processor time of a product of two matrices is compared, which takes a few hundredths of a
    second and does not depend on what else the machine does.
    """
    import numpy as np  # noqa: PLC0415 - the table is read without it

    matrix = np.full((512, 512), 0.5, np.float32)
    times_s = []
    for _ in range(6):
        started_s = time.process_time()
        matrix @ matrix
        times_s.append(time.process_time() - started_s)
    return max(min(times_s), 1e-4) / REFERENCE_PRODUCT_S
