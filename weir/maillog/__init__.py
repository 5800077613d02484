"""The mail log: what its lines say. Pure; `weir log` and the agents read it."""
