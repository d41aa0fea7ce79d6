"""All photographs pass through the walk and the modality, as in the indexer."""

import csv
import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmsearch.modalities._folder import walk
from mmsearch.modalities.image import build

EDGE_PX = 256


@pytest.fixture(scope="module")
def found(photos):
    folders = walk(os.fsencode(photos), modalities=[build()])
    return [file for folder in folders for file in folder.list_files()]


def test_walk_over_photo_folder_lists_exactly_manifest_files(photos, found):
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        named = {row["path"] for row in csv.DictReader(file)}
    assert {os.fsdecode(file.path) for file in found} == named
    for file in found:
        assert file.size == (photos / os.fsdecode(file.path)).stat().st_size


def test_image_read_matches_exif_transposed_photograph(photos, found):
    modality = build()
    for file in found:
        path = photos / os.fsdecode(file.path)
        decoded = modality.read(os.fsencode(path), EDGE_PX)
        with Image.open(path) as image:
            seen = ImageOps.exif_transpose(image).convert("RGB")
        picture, pixels = decoded.picture, decoded.pixels
        assert (picture.width, picture.height) == seen.size, path
        assert min(pixels.shape[:2]) >= min(EDGE_PX, *seen.size), path
        expected = seen.resize(pixels.shape[1::-1], Image.Resampling.BOX)
        difference = np.abs(pixels.astype(int) - np.asarray(expected, int))
        assert difference.mean() < 4, path


def test_image_thumbnail_is_jpeg_of_requested_size(photos, found):
    modality = build()
    for file in found[::10]:
        path = photos / os.fsdecode(file.path)
        with Image.open(io.BytesIO(modality.thumbnail(os.fsencode(path), 128))) as small:
            assert small.format == "JPEG"
            assert max(small.size) == 128
