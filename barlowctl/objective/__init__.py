"""The losses: pure functions from embeddings to a scalar and its terms. Methods are built on them (`methods/`)."""

from barlowctl.objective.barlow_twins import LossTerms, barlow_twins_loss, choose_form

__all__ = ["LossTerms", "barlow_twins_loss", "choose_form"]
