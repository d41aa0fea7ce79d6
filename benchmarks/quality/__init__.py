"""Benchmarks of search quality."""
