"""Studies: one recipe, several variants of it, a few seeds each, one table."""
