"""Worlds with known answers and conformance checks; public, for whoever adds an encoder or a model."""
