"""The use cases: indexing and searching. Sees protocols only."""
