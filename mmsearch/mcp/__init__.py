"""Model Context Protocol server: tools that let an assistant search an index."""
