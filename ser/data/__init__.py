"""Clips, splits and features -> batches."""
