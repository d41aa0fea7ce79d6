"""Vectors -> neighbours."""
