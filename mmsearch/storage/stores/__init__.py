"""Stores of immutable files: a folder of this machine, and stores of objects."""
