"""Models of order: self-attention over a history (SASRec with LiGR layers), and an LSTM."""

from sensorium.models.sequence.sequence import Lstm, Sequence, SequenceModel

__all__ = ["Lstm", "Sequence", "SequenceModel"]
