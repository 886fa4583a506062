"""Methods: views and what belongs to their batch in, a loss and its terms out. The engine trains any `Trainable`."""

from barlowctl.methods.barlow_twins import BarlowTwins
from barlowctl.methods.base import Method, Targets, Terms, Trainable
from barlowctl.methods.byol import BYOL
from barlowctl.methods.classification import Classifier
from barlowctl.methods.mixed_barlow_twins import MixedBarlowTwins
from barlowctl.methods.moco import MoCo
from barlowctl.methods.moved_rows import MovedRows
from barlowctl.methods.pirl import PIRL
from barlowctl.methods.simclr import SimCLR
from barlowctl.methods.simsiam import SimSiam
from barlowctl.methods.swav import SwAV
from barlowctl.methods.vicreg import VICReg

__all__ = [
    "BYOL",
    "PIRL",
    "BarlowTwins",
    "Classifier",
    "Method",
    "MixedBarlowTwins",
    "MoCo",
    "MovedRows",
    "SimCLR",
    "SimSiam",
    "SwAV",
    "Targets",
    "Terms",
    "Trainable",
    "VICReg",
]
