"""The gates: what a call needs to be judged, who makes it, whether it goes through, what comes back.

This is where it is decided whether a call goes through: `needs` → `verify` → `admit`, and `settle` for the reply.
"""
