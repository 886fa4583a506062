"""Products of matrices of bfloat16 by a processor's tiles or vectors, and convolutions that are such products."""
