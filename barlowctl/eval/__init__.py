"""What a representation is worth: features, kNN and linear classification, diagnostics."""
