"""What a text looks like: secrets, personal data, hidden text, links that carry data, wording of injections. Advice."""
