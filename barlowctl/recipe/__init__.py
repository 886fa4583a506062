"""A run as one complete typed value, and the files it is loaded from."""
