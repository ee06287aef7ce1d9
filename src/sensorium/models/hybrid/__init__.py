"""Hybrid factorisation: people and items as sums of their features' vectors, all that LightFM does."""

from sensorium.models.hybrid.hybrid import LOSSES, OPTIMIZERS, Hybrid, HybridModel

__all__ = ["LOSSES", "OPTIMIZERS", "Hybrid", "HybridModel"]
