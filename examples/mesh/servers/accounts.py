"""Customers' sign-in: whether an account is locked, and setting it free again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from examples.support_desk.servers.crm import CustomerId
from examples.support_desk.servers.serving import database


@dataclass(frozen=True)
class SignIn:
    customer_id: str
    locked: bool
    resets: int


def build(data: Path) -> MCPServer:
    """The server over `accounts.sqlite` of the folder given."""
    server = MCPServer("accounts", instructions="Sign-in of customers.", log_level="ERROR")
    path = data / "accounts.sqlite"

    @server.tool()
    def reset_password(customer_id: CustomerId) -> SignIn:
        """Reset the password of a customer and unlock the account; the new one goes to the address on file."""
        with database(path) as db:
            changed = db.execute(
                "UPDATE sign_in SET locked = 0, resets = resets + 1 WHERE customer_id = ? RETURNING resets",
                (customer_id,),
            ).fetchone()
        if changed is None:
            raise ToolError(f"no customer `{customer_id}`")
        return SignIn(customer_id=customer_id, locked=False, resets=changed["resets"])

    return server
