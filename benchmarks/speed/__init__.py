"""Benchmarks of speed, compared with peers."""
