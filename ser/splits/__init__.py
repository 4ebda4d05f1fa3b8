"""Clips -> train, val and test, by speaker, and the audit of what they share."""
