"""The paper's printed numbers, its claims, and an audit of both. Needs no torch."""
