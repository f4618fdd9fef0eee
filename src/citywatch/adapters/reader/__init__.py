"""The gateway's own tools as an upstream, and the model that reads for them."""

from citywatch.adapters.reader.desk import Desk
from citywatch.adapters.reader.endpoint import Endpoint

__all__ = ["Desk", "Endpoint"]
