"""Gradients of depthwise convolutions, of each channel by itself."""
