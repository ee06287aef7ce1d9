"""Pretrained encoders: from content to one vector a modality."""
