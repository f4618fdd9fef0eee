"""Private keys in files that only their owner can read, and the signers that use them."""

from citywatch.adapters.keys.checkpoints import CheckpointSigner
from citywatch.adapters.keys.files import SecretDirectory
from citywatch.adapters.keys.sealing import GenerationSealer
from citywatch.adapters.keys.signers import KeyKind, KeySigner, create_key, load_key, open_key, replace_key

__all__ = [
    "CheckpointSigner",
    "GenerationSealer",
    "KeyKind",
    "KeySigner",
    "SecretDirectory",
    "create_key",
    "load_key",
    "open_key",
    "replace_key",
]
