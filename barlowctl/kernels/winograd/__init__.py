"""Winograd's convolutions of 3 x 3: tiles of a map transformed, multiplied and transformed back."""
