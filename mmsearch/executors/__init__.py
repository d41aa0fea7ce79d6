"""Tasks -> results, somewhere."""
