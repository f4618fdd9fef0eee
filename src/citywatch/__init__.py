"""citywatch polices a system of AI agents: it enforces, records and proves what passes between them."""

__version__ = "0.1.0"
