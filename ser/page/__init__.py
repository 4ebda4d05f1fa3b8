"""Trained models -> a page in the browser that answers for recordings."""
