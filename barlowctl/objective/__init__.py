"""The loss: pure functions from embeddings to a scalar and its terms, and methods built on it."""

from barlowctl.objective.barlow_twins import LossTerms, barlow_twins_loss, choose_form
from barlowctl.objective.classification import Classifier
from barlowctl.objective.method import BarlowTwins, Method, Targets, Terms

__all__ = ["BarlowTwins", "Classifier", "LossTerms", "Method", "Targets", "Terms", "barlow_twins_loss", "choose_form"]
