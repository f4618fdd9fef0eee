"""A support desk: four MCP servers, one agent that obeys whatever it reads, and a ticket that lies to it."""
