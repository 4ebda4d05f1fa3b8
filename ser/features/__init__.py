"""Samples -> features: (batch, samples) -> one plane or vector a clip."""
