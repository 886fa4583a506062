"""Our kernels for a CPU: a folder for each kind of layer, and what they share."""
