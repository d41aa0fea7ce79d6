"""Stores of the vectors that a search compares with a query."""
