"""Benchmarks of what goes beyond one process and one host."""
