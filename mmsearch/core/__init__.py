"""Types, protocols and helpers shared by all packages; imports no plugin or heavy library."""
