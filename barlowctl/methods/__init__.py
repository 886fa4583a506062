"""Methods: views and what belongs to their batch in, a loss and its terms out. The engine trains any `Trainable`."""

from barlowctl.distributed import ALONE
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
from barlowctl.objective.batch_mean import batch_mean
from barlowctl.objective.gathered import gathered

__all__ = [
    "ALONE",
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
    "batch_mean",
    "gathered",
]
