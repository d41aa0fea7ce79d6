"""Vector indexes: nearest-neighbour search over embeddings."""
