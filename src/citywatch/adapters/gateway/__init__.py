"""ASGI: agents come in here, over MCP. Translates HTTP into calls and outcomes into HTTP; decides nothing."""
