"""Benchmarks of speed and search quality."""
