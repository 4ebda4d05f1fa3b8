"""Scores -> files, pictures, pages and W&B."""
