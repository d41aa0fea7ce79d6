"""Check, repair, copy and compact an index."""
