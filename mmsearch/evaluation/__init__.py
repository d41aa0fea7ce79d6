"""How good a ranking is: captioned sets -> queries with relevant pictures -> metrics."""
