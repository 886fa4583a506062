"""What our kernels for a CPU share: how they are compiled, and torch's threads that run them."""
