"""Files of an index: layout, atomic writes, checksums, locks."""
