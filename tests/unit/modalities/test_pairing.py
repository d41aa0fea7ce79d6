"""Names of pictures and of their sidecars."""

import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.modalities._texts.pairing import SIDECAR_SUFFIXES, is_named_after, pair_sidecars
from tests.property_budget import examples

NFC, NFD = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
LONG = "a very long name of a picture that goes on and on"  # 49 characters


def paired(pictures, sidecars):
    names = pair_sidecars([*map(os.fsencode, pictures)], [*map(os.fsencode, sidecars)])
    return {os.fsdecode(picture): [*map(os.fsdecode, names[picture])] for picture in names}


@pytest.mark.parametrize(
    ("pictures", "sidecars", "expected"),
    [
        (["a.jpg"], ["a.txt", "a.jpg.txt"], {"a.jpg": ["a.jpg.txt", "a.txt"]}),
        (["a.jpg"], ["a.b.txt", "ab.txt", "b.txt"], {}),
        # Names that differ in case.
        (["A.jpg"], ["a.txt"], {"A.jpg": ["a.txt"]}),
        (["a.JPG"], ["A.Jpg.TXT"], {"a.JPG": ["A.Jpg.TXT"]}),
        (
            ["Cat.jpg", "cat.jpg"],
            ["Cat.txt", "cat.txt"],
            {"Cat.jpg": ["Cat.txt"], "cat.jpg": ["cat.txt"]},
        ),
        (["Cat.jpg", "cat.jpg"], ["cat.txt"], {"cat.jpg": ["cat.txt"]}),
        (["Cat.jpg", "cat.jpg"], ["CAT.txt"], {"Cat.jpg": ["CAT.txt"]}),
        # The same name in other bytes.
        ([f"{NFC}.jpg"], [f"{NFD}.txt"], {f"{NFC}.jpg": [f"{NFD}.txt"]}),
        ([f"{NFD}.jpg"], [f"{NFC}.jpg.xmp"], {f"{NFD}.jpg": [f"{NFC}.jpg.xmp"]}),
        ([f"{NFD}.JPG"], [f"{NFC.upper()}.txt"], {f"{NFD}.JPG": [f"{NFC.upper()}.txt"]}),
        (
            [f"{NFC}.jpg", f"{NFD}.jpg"],
            [f"{NFC}.txt", f"{NFD}.txt"],
            {f"{NFC}.jpg": [f"{NFC}.txt"], f"{NFD}.jpg": [f"{NFD}.txt"]},
        ),
        (["\udcff.jpg"], ["\udcff.txt", "\udcfe.txt"], {"\udcff.jpg": ["\udcff.txt"]}),
        # A sidecar that fits two pictures.
        (["a.jpg", "a.png"], ["a.txt"], {"a.jpg": ["a.txt"]}),
        (["a.gif", "a.jpeg"], ["a.txt"], {"a.jpeg": ["a.txt"]}),
        (
            ["a.jpg", "a.png"],
            ["a.txt", "a.jpg.txt"],
            {"a.jpg": ["a.jpg.txt"], "a.png": ["a.txt"]},
        ),
        (
            ["a.jpg", "a.jpg.png"],
            ["a.jpg.txt"],
            {"a.jpg": ["a.jpg.txt"]},
        ),
    ],
)
def test_pair_sidecars_gives_each_text_to_closest_name(pictures, sidecars, expected):
    assert paired(pictures, sidecars) == expected


@pytest.mark.parametrize(
    ("picture", "sidecar"),
    [
        ("IMG.jpg", "IMG.jpg.json"),
        ("IMG.jpg", "IMG.json"),
        ("IMG.jpg", "IMG.jpg.supplemental-metadata.json"),
        ("IMG.jpg", "IMG.jpg.supplemental-metad.json"),
        ("IMG.jpg", "IMG.jpg.suppl.json"),
        ("IMG.jpg", "IMG.jpg.s.json"),
        ("IMG.jpg", "IMG.jpg..json"),
        ("IMG.JPG", "img.jpg.Supplemental-Metadata.JSON"),
        ("IMG(1).jpg", "IMG.jpg(1).json"),
        ("IMG(1).jpg", "IMG(1).jpg.json"),
        ("IMG(12).jpg", "IMG.jpg.supplemental-metadata(12).json"),
        ("IMG(1).jpg", "IMG.jpg.suppl(1).json"),
        ("IMG(1).jpg", "IMG(1).jpg.supplemental-metadata.json"),
        (f"{LONG}.jpg", f"{LONG[:46]}.json"),
        (f"{LONG[:47]}.jpg", f"{LONG[:46]}.json"),
        (f"{LONG[:43]}.jpeg", f"{LONG[:43]}.jp.json"),
        (f"{LONG[:47]}(2).jpg", f"{LONG[:46]}(2).json"),
        (f"{'Ä' * 50}.jpg", f"{'Ä' * 46}.json"),
        # An emoji has two UTF-16 units.
        (f"{'🐕' * 25}.jpg", f"{'🐕' * 23}.json"),
        (f"a{'🐕' * 25}.jpg", f"a{'🐕' * 22}.json"),
        *(
            (f"IMG-{word}.jpg", "IMG.jpg.supplemental-metadata.json")
            for word in ("edited", "bearbeitet", "modifié", "editado", "edytowane", "EDITED")
        ),
        (unicodedata.normalize("NFD", "IMG-modifié.jpg"), "IMG.jpg.json"),
        ("IMG-edited(1).jpg", "IMG.jpg(1).json"),
        ("IMG-edited(1).jpg", "IMG(1).jpg.json"),
        (f"{LONG[:43]}-edi.jpg", f"{LONG[:43]}.jp.json"),
        ("IMG(1)-edited.jpg", "IMG.jpg(1).json"),
        ("IMG-edited.jpg", "IMG.HEIC.supplemental-metadata.json"),
        ("IMG(1).jpg", "IMG.HEIC.supplemental-metadata(1).json"),
        ("IMG(1).jpg", "IMG(1).HEIC.json"),
        ("IMG.CR2", "IMG.xmp"),
        ("IMG.jpg", "IMG_01.jpg.xmp"),
        ("IMG.jpg", "IMG.CR2.xmp"),
        ("IMG.jpg", "IMG.HEIC.json"),
    ],
)
def test_pair_sidecars_knows_names_of_takeout_and_raw_programs(picture, sidecar):
    assert paired([picture], [sidecar]) == {picture: [sidecar]}


@pytest.mark.parametrize(
    ("picture", "sidecar"),
    [
        ("IMG.jpg", "IMG.jpg(1).json"),
        ("IMG(1).jpg", "IMG.jpg.json"),
        ("IMG(1).jpg", "IMG.jpg(2).json"),
        ("IMG.jpg", "IMG.jpg.metadata.json"),
        ("IMG.jpg", "IMG.jpg.supplemental-metadata.txt"),
        ("metadata.jpg", "metadata.json"),
        ("Metadaten.jpg", "Metadaten(1).json"),
        (f"{LONG}.jpg", f"{LONG[:45]}x.json"),
        (f"{LONG}.jpg", f"{LONG[:30]}.json"),
        ("beach-sunset.jpg", "beach.jpg.json"),
        ("IMG-edited.jpg", "IMG.jpg.txt"),
        ("IMG-edited.jpg", "IMG.json"),
        ("IMG_1.jpg", "IMG_1.MOV.json"),
        ("a.jpg", "a.png.txt"),
    ],
)
def test_pair_sidecars_leaves_names_of_other_pictures(picture, sidecar):
    assert paired([picture], [sidecar]) == {}


def test_pair_sidecars_edited_copy_shares_json_of_original_unless_it_has_its_own():
    pictures = ["IMG.jpg", "IMG-edited.jpg", "IMG_2.jpg", "IMG_2-edited.jpg"]
    sidecars = ["IMG.jpg.json", "IMG_2.jpg.json", "IMG_2-edited.jpg.json"]
    assert paired(pictures, sidecars) == {
        "IMG.jpg": ["IMG.jpg.json"],
        "IMG-edited.jpg": ["IMG.jpg.json"],
        "IMG_2.jpg": ["IMG_2.jpg.json"],
        "IMG_2-edited.jpg": ["IMG_2-edited.jpg.json"],
    }
    assert is_named_after(b"IMG.jpg.json", b"IMG.jpg")
    assert is_named_after(b"IMG_2-edited.jpg.json", b"IMG_2-edited.jpg")
    assert not is_named_after(b"IMG.jpg.json", b"IMG-edited.jpg")


NAME_PIECES = st.sampled_from(
    [
        "a",
        "A",
        "b",
        "ü",
        "u\u0308",
        "(1)",
        "-edited",
        "_01",
        ".jpg",
        ".png",
        ".CR2",
        ".suppl",
        "\udcff",
    ]
)
NAMES = st.lists(NAME_PIECES, min_size=1, max_size=4).map("".join)


@given(
    pictures=st.sets(NAMES, max_size=8),
    sidecars=st.sets(
        st.tuples(NAMES, st.sampled_from(SIDECAR_SUFFIXES)).map(lambda p: p[0] + p[1].decode()),
        max_size=8,
    ),
)
@settings(max_examples=examples(300))
def test_pair_sidecars_keeps_exact_pairs_and_gives_no_sidecar_to_two_pictures(pictures, sidecars):
    pairs = paired(sorted(pictures), sorted(sidecars))
    assert pairs == paired(sorted(pictures, reverse=True), sorted(sidecars, reverse=True))
    owners = {
        sidecar: [picture for picture in pairs if sidecar in pairs[picture]] for sidecar in sidecars
    }
    for sidecar, claiming in owners.items():
        base = os.path.splitext(sidecar)[0]
        # Subtitles belong to films alone.
        if base in pictures and not sidecar.endswith((".ass", ".srt", ".ssa", ".vtt")):
            assert base in claiming
        assert len([picture for picture in claiming if "-edited" not in picture]) <= 1
        assert sidecar.endswith(".json") or len(claiming) <= 1
