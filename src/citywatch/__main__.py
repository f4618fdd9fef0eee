"""`python -m citywatch`."""

from citywatch.main import cli

cli()
