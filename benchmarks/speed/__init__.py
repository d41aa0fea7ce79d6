"""How fast it is, beside what it must beat."""
