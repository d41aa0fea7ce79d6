"""One picture's vectors -> one vector."""
