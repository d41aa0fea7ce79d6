"""Maintenance of an index: check, repair, backup and restore."""
