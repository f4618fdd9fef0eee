"""What flows through an agent: values, the items they came from, and the notations one value can be written in."""
