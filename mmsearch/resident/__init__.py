"""Resident process that keeps an index open, and the client through which commands use it."""
