"""Finished runs -> findings: tables, pictures and comparisons."""
