"""Find pictures by describing them."""

__version__ = "0.1.0"
