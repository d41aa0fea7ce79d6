"""What an assistant asks of an index, over the Model Context Protocol."""
