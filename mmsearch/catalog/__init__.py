"""Catalog of pictures, files and texts: SQLAlchemy on SQLite."""
