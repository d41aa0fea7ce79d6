"""How well pictures are found."""
