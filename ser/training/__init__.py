"""Batches -> a fitted model, chosen on the validation speakers."""
