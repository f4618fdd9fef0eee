"""Cedar policies: load them, check them, compile them, decide by them, explain what they decided.

Decides whether plain facts are permitted; knows nothing of credentials, sessions or JSON-RPC. The law is in
`spec/policy.md`.
"""
