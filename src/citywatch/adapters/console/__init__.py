"""The web console: how people see the city, and answer for it."""
