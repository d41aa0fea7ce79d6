"""Indexing: turn files into segments and vector indexes."""
