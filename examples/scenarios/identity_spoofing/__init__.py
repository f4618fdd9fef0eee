"""A look-alike takes a hand-over: see `README.md`."""
