"""A kind of file -> pictures: pixels, facts, thumbnails."""
