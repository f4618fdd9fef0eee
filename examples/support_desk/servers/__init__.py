"""The desk's tool servers on the official MCP SDK: `crm`, `ledger`, `tickets` over HTTP, `documents` over stdio."""
