"""A customer's second sentence is an order for an agent that the customer has never met: see `README.md`."""
