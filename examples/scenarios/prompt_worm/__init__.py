"""A text that has itself passed on: see `README.md`."""
