"""File names -> clips: what each corpus says of a recording by its name."""
