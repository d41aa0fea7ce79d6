"""Retrievers for other frameworks; each needs an optional extra."""
