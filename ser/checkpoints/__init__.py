"""A model <-> one file, which is hostile until it is checked."""
