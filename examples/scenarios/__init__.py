"""Attacks on a mesh of agents, each as numbered steps: they work undefended, fail through citywatch, and the honest
variant goes through. `citywatch demo` lists them.
"""
