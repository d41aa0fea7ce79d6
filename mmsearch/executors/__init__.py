"""Executors that run tasks in threads or processes."""
