"""A run on disk: its directory, and what can be read of it from outside. No torch."""
