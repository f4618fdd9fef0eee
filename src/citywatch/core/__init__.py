"""Decides. No I/O, no clock, no chance, no async, no globals that change."""
