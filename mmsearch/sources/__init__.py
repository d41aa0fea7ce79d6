"""Sources: where pictures come from, other than folders: archives, tables, stores, data sets."""
