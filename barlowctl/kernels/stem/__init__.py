"""A ResNet's stem after its convolution: batch norm, ReLU and maximum pooling, image by image."""
