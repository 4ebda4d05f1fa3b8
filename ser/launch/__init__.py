"""Hydra's side of a start: its config, its folder, its sweep, and how it ends."""
