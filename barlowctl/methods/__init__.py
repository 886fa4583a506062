"""Methods: views and what belongs to their batch in, a loss and its terms out. The engine trains any of them."""

from barlowctl.methods.barlow_twins import BarlowTwins
from barlowctl.methods.base import Method, Targets, Terms
from barlowctl.methods.classification import Classifier
from barlowctl.methods.moco import MoCo
from barlowctl.methods.simclr import SimCLR

__all__ = ["BarlowTwins", "Classifier", "Method", "MoCo", "SimCLR", "Targets", "Terms"]
