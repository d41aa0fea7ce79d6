"""The composition root: settings and names -> working parts. Only this room knows them all."""
