"""Nearest vectors: exact to 50,000 items, inverted lists beyond."""
