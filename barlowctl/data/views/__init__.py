"""What a view of an image is (`spec`), the random numbers that draw it (`draws`), and the kernels of its pixels."""
