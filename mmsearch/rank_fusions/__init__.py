"""Two ranked lists -> one."""
