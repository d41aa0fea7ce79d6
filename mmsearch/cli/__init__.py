"""The command: parses, calls the public API, renders."""
