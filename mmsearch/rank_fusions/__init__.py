"""Rank fusions: combine the visual and the text ranking of a query into one."""
