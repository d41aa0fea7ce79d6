"""The vocabulary that every room shares; knows no plugin and no heavy library."""
