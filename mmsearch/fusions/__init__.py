"""Fusions: combine the image vector and the text vectors of a picture into one vector."""
