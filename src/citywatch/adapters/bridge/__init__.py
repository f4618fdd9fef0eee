"""`citywatch connect`: a local bridge that holds an agent's key and adds its papers, for clients that can do neither.

Two faces, one relay: `LoopbackBridge` is HTTP on loopback, `StdioBridge` is JSON-RPC lines on standard input and
output. Both ask through a `Relay`, which shows the papers that a `Bearer` renews, over a `GatewayClient`.
"""

from citywatch.adapters.bridge.bearer import Bearer
from citywatch.adapters.bridge.client import GatewayClient
from citywatch.adapters.bridge.loopback import LoopbackBridge
from citywatch.adapters.bridge.relay import Relay
from citywatch.adapters.bridge.stdio import StdioBridge

__all__ = ["Bearer", "GatewayClient", "LoopbackBridge", "Relay", "StdioBridge"]
