"""A flood of legitimate-looking requests hides one that is not: see `README.md`."""
