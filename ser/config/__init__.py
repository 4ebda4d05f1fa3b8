"""The composed config: bounds of its values, and differences of two."""
