"""Touches the world; translates, decides nothing."""
