"""What a CPU computes by kernels of ours, or as products of matrices, in place of torch's layers."""
