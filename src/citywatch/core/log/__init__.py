"""The log: events become leaves of a Merkle tree whose signed head a stranger can check."""
