"""Batches of views: `fast` from a packed file, `plain` from anything, `device` with the photometric chain on a GPU."""
