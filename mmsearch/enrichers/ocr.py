"""Texts in pictures, read by PP-OCRv6 (https://github.com/PaddlePaddle/PaddleOCR).

rapidocr runs it in ONNX Runtime (extra ``ocr``): a detector finds lines, and a recognizer reads
them. The models are in its wheel; they are named by their files, because rapidocr would download a
model that is named otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmsearch.core.boxes import LineBox
from mmsearch.core.derived import EnricherInput, EnricherOptions
from mmsearch.core.errors import DecodeError, ModelUnavailableError
from mmsearch.core.plugins import require_packages
from mmsearch.core.texts import MAX_TEXT_CHARS, to_single_line
from mmsearch.core.types import IMAGE_KIND, EncoderSpec, Picture, Pixels, Text, TextSource

READS: Final = EnricherInput.PIXELS
KINDS: Final = frozenset({IMAGE_KIND, "document"})
EDGE_PX: Final = 1024
"""Short side to which a picture may be reduced: letters of 14 pixels are still read then."""

DETECTOR_PX: Final = 736
"""Maximum long side in which the detector searches for lines; they are read in larger pictures."""

ENLARGED_BELOW_PX: Final = 650
"""Long side below which a picture is enlarged to twice its size."""

MIN_SIDE_PX: Final = 12
"""Short side below which a picture has room for no word."""

TALL: Final = 3
"""Height divided by width from which on a picture is read in tiles, such as a long screenshot."""

MAX_TILES: Final = 16

MIN_LINE_PX: Final = 3
"""Height of a line below which nothing can be read."""

MIN_CONFIDENCE: Final = 0.8
MIN_CHARACTERS: Final = 2
"""Minimum number of letters and digits of a line: of single ones, most are not on the picture."""

MIN_PAGE_CHARACTERS: Final = 20
"""Number of characters from which on a page of a document has its text and is not read."""

TEXT_FIRST: Final = True
"""Contents that are likely to have text in them, such as screenshots, are read first."""

_VERSION: Final = 2
_MODELS: Final = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}


def fingerprint(options: EnricherOptions, encoder: EncoderSpec) -> str:
    """Return what the texts depend on: the models, rapidocr, and the version of this code.

    The versions of ONNX Runtime and OpenCV are left out: they change the last digits of a
    confidence, and reading a library again takes hours.

    Raises:
        MissingExtraError: rapidocr is not installed.
        ModelUnavailableError: A file of a model is missing.
    """
    from importlib.metadata import version  # noqa: PLC0415 - only descriptions need it

    digests = [_sha256(path) for path in _find_models().values()]
    numbers = (EDGE_PX, DETECTOR_PX, ENLARGED_BELOW_PX, TALL, MIN_CONFIDENCE, MIN_CHARACTERS)
    parts = (_VERSION, version("rapidocr"), *digests, *numbers)
    return f"ocr-{hashlib.sha256(' '.join(map(str, parts)).encode()).hexdigest()[:16]}"


def wants(picture: Picture) -> bool:
    """Return False for a page that has its text, which is better than what can be read on it."""
    page_texts = (text.text for text in picture.texts if text.kind == "page")
    return sum(map(len, page_texts)) < MIN_PAGE_CHARACTERS


def memory_mb(options: EnricherOptions) -> int:
    """Return the memory of a process that reads texts, in megabytes."""
    return 800


def uses_gpu(device: str) -> bool:
    """Return False: the models run on the CPU."""
    return False


def build(options: EnricherOptions) -> TextReader:
    """Return the reader of texts; it loads its models at once, and uses one thread.

    Raises:
        MissingExtraError: rapidocr is not installed.
        ModelUnavailableError: A file of a model is missing.
    """
    return TextReader(_find_models())


def _find_models() -> dict[str, Path]:
    """Return the file of each model in the package rapidocr."""
    require_packages("Reading texts in pictures", "ocr", "rapidocr", "cv2")
    import rapidocr  # noqa: PLC0415 - an extra

    folder = Path(str(rapidocr.__file__)).parent / "models"
    paths = {task: folder / name for task, name in _MODELS.items()}
    for path in paths.values():
        if not path.is_file():
            raise ModelUnavailableError(
                f"The model {path} for reading texts is missing.",
                "Install the package rapidocr again.",
            )
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TextLine:
    """A line of text in a picture.

    Attributes:
        text: What is written.
        confidence: Mean probability of its characters, 0..1.
        box: Left, top, right and bottom, as shares of the width and the height of the picture.
    """

    text: str
    confidence: float
    box: tuple[float, float, float, float]


class TextReader:
    """Enricher that reads texts; see `mmsearch.core.enrichers.PixelEnricher`.

    Args:
        models: File of each model by the name of its task in rapidocr.
    """

    edge_px = EDGE_PX

    def __init__(self, models: dict[str, Path]) -> None:
        self._engine = _load_engine(models)

    def read(self, pixels: Pixels) -> tuple[Text, ...]:
        """Return the lines of a picture as one text: words of a sign are searched together.

        Raises:
            DecodeError: The picture cannot be read; the message is the reason.
        """
        return join_lines(self.find_lines(pixels))

    def find_lines(self, pixels: Pixels) -> tuple[TextLine, ...]:
        """Return the lines of a picture, uint8 (height, width, 3) in RGB, in reading order.

        Raises:
            DecodeError: The picture cannot be read; the message is the reason.
        """
        height, width = pixels.shape[:2]
        if min(height, width) < MIN_SIDE_PX:
            return ()
        lines = []
        for tile in split_tall(height, width):
            # A line at the edge of a tile is whole in one of the two.
            for line in self._read_tile(pixels[tile.start : tile.stop]):
                moved = tile.place(line, height)
                if tile.owns(moved, height):
                    lines.append(moved)
        return tuple(lines)

    def _read_tile(self, pixels: Pixels) -> Iterator[TextLine]:
        from rapidocr.utils.process_img import ResizeImgError  # noqa: PLC0415 - loaded by now

        # The models were trained on pictures in the order of OpenCV: blue, green, red.
        image: Any = np.ascontiguousarray(enlarge(pixels)[..., ::-1])
        height, width = image.shape[:2]
        try:
            found = self._read_lines(image)
        except MemoryError:
            raise
        except ResizeImgError as error:
            raise DecodeError("it is too narrow for its length to find texts in it") from error
        # Its parts raise what they like.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise DecodeError(f"no text can be read in it: {reason}") from error
        for text, score, corners in found:
            line = to_single_line(text)
            if is_readable(line, score):
                left, top = (corners.min(axis=0) / (width, height)).tolist()
                right, bottom = (corners.max(axis=0) / (width, height)).tolist()
                yield TextLine(line, score, (left, top, right, bottom))

    def _read_lines(self, image: Any) -> list[tuple[str, float, Any]]:
        """Return text, confidence and corners, (4, 2) in pixels, of each line.

        Lines that cannot be read are read again upside down. The classifier of rapidocr is not
        asked for their direction: it turns one in twenty upright lines of a noisy scan.
        """
        found = self._engine(image)
        if found.txts is None:
            return []
        lines = list(zip(found.txts, map(float, found.scores), found.boxes, strict=True))
        weak = [
            number
            for number, (_, score, corners) in enumerate(lines)
            if score < MIN_CONFIDENCE and min(np.ptp(corners, axis=0)) >= MIN_LINE_PX
        ]
        if not weak:
            return lines
        corners = np.array([lines[number][2] for number in weak], np.float32)
        crops = self._engine.crop_text_regions(image, corners)
        turned = self._engine.recognize_txt(
            [np.ascontiguousarray(crop[::-1, ::-1]) for crop in crops]
        )
        for number, text, score in zip(weak, turned.txts, turned.scores, strict=True):
            if score > lines[number][1]:
                lines[number] = text, float(score), lines[number][2]
        return lines


def _load_engine(models: dict[str, Path]) -> Any:
    from rapidocr import RapidOCR  # noqa: PLC0415 - imports OpenCV and ONNX Runtime

    engine = "EngineConfig.onnxruntime"
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": 0.0,
            "Global.use_cls": False,
            f"{engine}.intra_op_num_threads": 1,
            f"{engine}.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": DETECTOR_PX,
            **{f"{task}.model_path": str(path) for task, path in models.items()},
        }
    )


def is_readable(line: str, confidence: float) -> bool:
    """Return True if a line is likely to be written in the picture."""
    return confidence >= MIN_CONFIDENCE and sum(map(str.isalnum, line)) >= MIN_CHARACTERS


def join_lines(lines: Sequence[TextLine]) -> tuple[Text, ...]:
    """Return lines as one text with the mean confidence of its characters; none without lines.

    The text has the box of each of its lines.
    """
    text = " ".join(line.text for line in lines)[:MAX_TEXT_CHARS].rstrip()
    if not text:
        return ()
    boxes, start = [], 0
    for line in lines:
        if start >= len(text):
            break
        sides = (round(min(max(side, 0.0), 1.0), 4) for side in line.box)
        boxes.append(LineBox(start, min(start + len(line.text), len(text)), *sides))
        start += len(line.text) + 1
    count = sum(len(line.text) for line in lines)
    confidence = sum(line.confidence * len(line.text) for line in lines) / count
    return (
        Text(
            "ocr",
            text,
            source=TextSource.OCR,
            confidence=round(confidence, 3),
            boxes=tuple(boxes),
        ),
    )


def enlarge(pixels: Pixels) -> Pixels:
    """Return a small picture at twice its size, another one as it is."""
    from PIL import Image  # noqa: PLC0415 - only decode workers need it

    height, width = pixels.shape[:2]
    if max(height, width) >= ENLARGED_BELOW_PX:
        return pixels
    size = (2 * width, 2 * height)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Tile:
    """Rows of a picture that are read together.

    Attributes:
        start: First row.
        stop: Row after the last one.
        own: Rows of which no other tile has the lines.
    """

    start: int
    stop: int
    own: range

    def place(self, line: TextLine, height: int) -> TextLine:
        """Return a line of this tile with its place in the picture of that height."""
        left, top, right, bottom = line.box
        top, bottom = (
            (self.start + share * (self.stop - self.start)) / height for share in (top, bottom)
        )
        return TextLine(line.text, line.confidence, (left, top, right, bottom))

    def owns(self, line: TextLine, height: int) -> bool:
        """Return True if the middle of a line is in the rows of this tile."""
        return int((line.box[1] + line.box[3]) / 2 * height) in self.own


def split_tall(height: int, width: int) -> list[Tile]:
    """Return the tiles of a picture from top to bottom: one, unless it is much taller than wide."""
    if height < TALL * width:
        return [Tile(0, height, range(height + 1))]
    rows = max(2 * width, -(-height // MAX_TILES))
    overlap = rows // 8
    tiles = []
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        own = range(start, stop if stop < height else height + 1)
        tiles.append(Tile(max(start - overlap, 0), min(stop + overlap, height), own))
    return tiles
