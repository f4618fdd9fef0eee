"""Acts, only through ports."""
