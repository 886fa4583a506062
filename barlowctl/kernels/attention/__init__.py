"""Attention without a mask: the patches of an image in one head, by products of bfloat16 and exponentials of rows."""
