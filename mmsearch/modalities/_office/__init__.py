"""Office files: zip packages of XML parts, and the texts in them."""
