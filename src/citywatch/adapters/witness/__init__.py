"""The witness: its own process, key and memory, which cosigns a head only if the log merely grew; and its client."""

from citywatch.adapters.witness.app import WitnessApp, serve_witness
from citywatch.adapters.witness.client import HttpWitness
from citywatch.adapters.witness.heads import WitnessHeads, open_heads

__all__ = ["HttpWitness", "WitnessApp", "WitnessHeads", "open_heads", "serve_witness"]
