"""HTTP server for indexes."""
