"""Reading of dates, people and places in the words of a query. Pure: it knows no index."""
