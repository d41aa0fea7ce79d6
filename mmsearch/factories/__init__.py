"""Composition root: builds components from settings and plugin names.

It is the only package that imports all of them.
"""
