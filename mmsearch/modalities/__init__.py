"""Modalities: read files as pictures, with pixels, metadata and thumbnails."""
