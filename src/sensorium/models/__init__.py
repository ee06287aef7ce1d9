"""Recommenders: one file a method, all through the protocols of `model.py`."""
