"""Untrusted documents: mutants, bombs, encryption, and trees of pages that do not end."""

import hashlib
import random
import zlib

import pytest

from mmsearch.core.results import TaskFailure
from mmsearch.modalities import document, image
from tests.faults.hostile_files import Sizes, decoding, mutate
from tests.pdf_files import pdf, words

MUTANTS = 500
LIMIT_S = 60.0
MEMORY_MB = 2048
PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")

pytest.importorskip("pypdfium2")


@pytest.fixture(scope="module")
def decode():
    """Function that decodes files in worker processes and returns the outcome of each path."""
    with decoding((image.build(), document.build()), Sizes(260), LIMIT_S, MEMORY_MB) as run:
        yield run


@pytest.fixture
def outcome_of(decode, tmp_path):
    def run(content):
        path = tmp_path / "hostile.pdf"
        path.write_bytes(content)
        (outcome,) = decode([path]).values()
        return outcome

    return run


def page_texts(window):
    return [
        " ".join(text.text for text in item.picture.texts if text.kind == "page")
        for item in window.items
    ]


def compressed(content):
    """Return objects in which a page's content is compressed."""
    packed = zlib.compress(content, 9)
    return b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed)


def sound():
    picture = b"<</Type/XObject/Subtype/Image/Width 40/Height 40/ColorSpace/DeviceRGB"
    pixels = zlib.compress(random.Random(1).randbytes(4800))
    extra = [
        picture
        + b"/BitsPerComponent 8/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
        % (len(pixels), pixels),
        compressed(words("packed words") + b" q 90 0 0 90 9 9 cm /X Do Q"),
    ]
    content = pdf([words("one", "two"), words("three"), b""], info="/Title(Sound)", extra=extra)
    content = content.replace(b"/F1 3 0 R>>>>/Contents 10 0 R", b"/F1 3 0 R>>>>/Contents 12 0 R")
    return content.replace(
        b"<</Font<</F1 3 0 R>>>>", b"<</Font<</F1 3 0 R>>/XObject<</X 11 0 R>>>>"
    )


def test_mutated_documents_end_in_pages_or_in_one_reason(decode, tmp_path):
    rng = random.Random(7)
    original = sound()
    assert page_texts(decode([_write(tmp_path / "sound.pdf", original)]).popitem()[1]) == [
        "one two",
        "three",
        "packed words",
    ]
    paths = [_write(tmp_path / f"{n:03}.pdf", mutate(original, rng)) for n in range(MUTANTS)]
    outcomes = decode(paths)
    assert len(outcomes) == MUTANTS
    refused = 0
    for path, outcome in outcomes.items():
        if isinstance(outcome, TaskFailure):
            refused += 1
            assert not outcome.crashed, (path, outcome)
            assert 5 < len(outcome.reason) < 200, (path, outcome)
            assert outcome.reason.isprintable(), (path, outcome)
            assert "Error" not in outcome.reason, (path, outcome)
        else:
            assert outcome.kind in ("document", "image")
            assert outcome.items
    assert 5 < refused < MUTANTS // 2


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.7\n" + random.Random(3).randbytes(50_000), "a PDF of which the end is missing"),
        (pdf([words("a")] * 50)[:3000], "a PDF of which the end is missing"),
        (pdf([]), "it has no pages"),
        (b"once upon a time there was a text\n" * 20, "not a PDF"),
    ],
    ids=["empty", "random", "truncated", "no pages", "text"],
)
def test_file_named_pdf_that_is_none_has_one_reason(outcome_of, content, reason):
    assert outcome_of(content) == TaskFailure(reason)


def test_picture_named_pdf_is_read_as_picture(decode, photos, tmp_path):
    path = _write(tmp_path / "photo.pdf", min(photos.rglob("*.jpg")).read_bytes())
    (window,) = decode([path]).values()
    assert (window.kind, len(window.items)) == ("image", 1)


def test_document_of_200_000_pages_gives_its_first_pages(outcome_of):
    # All pages share one content, as in a small file that claims a lot.
    kids = b" ".join([b"5 0 R"] * 200_000)
    content = pdf([words("the only page")])
    content = content.replace(b"/Kids[5 0 R]/Count 1", b"/Kids[%s]/Count 200000" % kids)
    window = outcome_of(content)
    assert len(window.items) == 64
    assert window.has_more
    assert "only the first 5,000 of 200,000 pages are read" in window.items[0].picture.damage


@pytest.mark.parametrize("child", [b"2 0 R", b"2 0 R 5 0 R"])
def test_tree_of_pages_that_contains_itself_ends(outcome_of, child):
    content = pdf([words("leaf")]).replace(b"/Kids[5 0 R]", b"/Kids[%s]" % child)
    outcome = outcome_of(content)
    assert isinstance(outcome, TaskFailure) or len(outcome.items) == 1


def test_compressed_bomb_fails_alone(decode, tmp_path):
    bomb = compressed(b"0 0 m 9 9 l S\n" * 40_000_000)
    content = pdf([words("before"), b"", words("after")], extra=[bomb])
    content = content.replace(b"/Contents 8 0 R", b"/Contents 11 0 R")
    assert len(content) < 2_000_000
    paths = [_write(tmp_path / "1.pdf", pdf([words("first")])), _write(tmp_path / "2.pdf", content)]
    paths.append(_write(tmp_path / "3.pdf", pdf([words("third")])))
    first, failure, third = decode(paths).values()
    assert isinstance(failure, TaskFailure)
    limits = ("the decoder crashed", "decoding took", "there is not enough memory")
    assert failure.reason.startswith(limits)
    assert [*page_texts(first), *page_texts(third)] == ["first", "third"]


def test_picture_of_billions_of_pixels_leaves_the_other_pages(outcome_of):
    giant = (
        b"<</Type/XObject/Subtype/Image/Width 60000/Height 60000/ColorSpace/DeviceRGB"
        b"/BitsPerComponent 8/Length 3>>stream\nabc\nendstream"
    )
    content = pdf([words("before"), b"q 500 0 0 500 9 9 cm /X Do Q"], extra=[giant])
    content = content.replace(
        b"<</Font<</F1 3 0 R>>>>", b"<</Font<</F1 3 0 R>>/XObject<</X 9 0 R>>>>"
    )
    outcome = outcome_of(content)
    assert page_texts(outcome)[0] == "before"


# --- encryption ---


def rc4(key, content):
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in content:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def encrypted(user_password, lines):
    """Return a document of one page that is encrypted with 40 bits (PDF 1.4, algorithm 3.2)."""
    owner, permissions, name = bytes(range(32)), -44, b"0123456789abcdef"
    padded = (user_password + PADDING)[:32]
    limits = permissions.to_bytes(4, "little", signed=True)
    key = hashlib.md5(padded + owner + limits + name).digest()[:5]  # noqa: S324 - the format's
    # The content of the page is object 6.
    page_key = hashlib.md5(key + b"\6\0\0" + b"\0\0").digest()[:10]  # noqa: S324
    standard = "/Filter/Standard/V 1/R 2/P -44"
    user = rc4(key, PADDING).hex()
    trailer = f"/Encrypt<<{standard}/O<{owner.hex()}>/U<{user}>>>/ID[<{name.hex()}><{name.hex()}>]"
    return pdf([rc4(page_key, words(*lines))], trailer=trailer)


def test_document_that_needs_a_password_says_so(outcome_of):
    outcome = outcome_of(encrypted(b"secret", ["hidden words"]))
    assert outcome == TaskFailure("it can only be opened with its password")


def test_document_that_anyone_may_open_but_not_change_is_read(outcome_of):
    assert page_texts(outcome_of(encrypted(b"", ["open words"]))) == ["open words"]


def test_document_with_unknown_encryption_says_so(outcome_of):
    content = pdf([words("a")], trailer="/Encrypt<</Filter/Strange/V 9>>/ID[<00><00>]")
    assert outcome_of(content) == TaskFailure("its encryption is not supported")
