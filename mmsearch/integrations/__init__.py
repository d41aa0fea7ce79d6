"""Retrievers and vector stores for other frameworks; each needs an optional extra."""
