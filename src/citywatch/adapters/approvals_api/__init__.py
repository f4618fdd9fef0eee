"""The approvals API: people answer tickets from a front end of their own. Decides nothing."""
