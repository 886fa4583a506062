"""barlowctl: Barlow Twins pre-training, evaluation and export from the command line.

Importing this package is cheap: nothing here imports torch.
"""

__version__ = "0.1.0"
