"""Search: encode a query, retrieve candidates and rank them."""
