"""Servers -> files below the root of the data."""
