"""Detection and instance segmentation, as in the paper's table 4: annotated images, models, metrics."""
