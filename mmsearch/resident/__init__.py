"""A process that keeps an index open, and commands that let it answer for them."""
