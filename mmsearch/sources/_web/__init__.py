"""Guarded fetch of untrusted URLs, which sources and the server share."""
