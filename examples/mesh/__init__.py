"""A mesh: agents that speak to each other over A2A, tools over MCP, and a model that obeys whatever it reads."""
