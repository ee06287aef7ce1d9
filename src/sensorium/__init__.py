"""Sensorium: recommendations from text, pictures, sound, video and what people did."""

__version__ = "0.1.0"
