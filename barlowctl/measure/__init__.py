"""What a trained network is worth: subjects to measure, protocols, transfer, embeddings, and pages of them."""
