"""A query in, ranked pictures out."""
