"""Who lets whom do what, for which task, until when: signed links, and the authority that a chain of them gives."""
