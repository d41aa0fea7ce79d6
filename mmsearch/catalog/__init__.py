"""Who is picture 42? SQLAlchemy on SQLite."""
