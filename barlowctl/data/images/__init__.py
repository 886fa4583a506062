"""From the bytes of one picture to upright 8-bit pixels, the same for packing, training and measuring."""
