"""Bytes ⇄ messages and their meaning: JSON-RPC, MCP, server-sent events. Nothing here knows who may do what."""
