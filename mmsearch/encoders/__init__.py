"""Encoders: map pictures and texts to unit vectors in one shared embedding space."""
