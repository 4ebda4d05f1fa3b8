"""Predictions -> scores and their intervals; finished runs read back."""
