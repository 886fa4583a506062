"""What holds of every method alike: the network that is exported, and collapse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from barlowctl.assemble.evaluation import OnlineEvaluation
from barlowctl.assemble.exporting import model_of
from barlowctl.assemble.finished import FinishedRun
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method
from barlowctl.eval.diagnostics import feature_spread
from barlowctl.exports import export
from barlowctl.methods import Method, Targets
from barlowctl.methods.momentum import MovingAverage
from barlowctl.model import build_backbone
from barlowctl.modes import in_mode
from barlowctl.recipe import load
from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.schema import Recipe

BATCH, SIDE = 8, 16
ARGUMENTS = {"channels": [4, 8, 8, 8], "stem_width": 4}
CHANGES = [
    "model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,8], stem_width=4}", "model.projector=[12,6]",
    f"views.size={SIDE}", f"eval.resize={SIDE}", f"eval.crop={SIDE}", f"train.batch_size={BATCH}",
    "train.precision=fp32", "data.drop_last=true",
]  # fmt: skip
OWN = {
    "moco": ["objective.queue=32"],
    "moco-v2": ["objective.queue=32"],
    "swav": ["objective.prototypes=16", "views.small.count=2", "views.small.size=8"],
    "pirl": ["objective.negatives=16", "views.patches.grid=2", "views.patches.cell=12", "views.patches.window=8"],
}


def made(name: str) -> tuple[Method, Recipe]:
    recipe = load.load("quickstart", [*CHANGES, f"objective.name={name}", *OWN.get(name, ())])
    return build_method(recipe, Context(classes=3, images=64)), recipe


def views_of(recipe: Recipe) -> list[torch.Tensor]:
    channels = recipe.data.channels
    sides = [SIDE] * recipe.objective.full_views
    sides += [recipe.views.small.size] * recipe.views.small.count
    if recipe.objective.name == "pirl":
        sides += [recipe.views.patches.window] * recipe.views.patches.grid**2
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(BATCH, channels, side, side, generator=generator) for side in sides]


@pytest.mark.parametrize("name", METHODS)
def test_the_network_that_learns_is_exported_and_nothing_else(name: str, tmp_path: Path) -> None:
    """BYOL evaluates its online network and MoCo its query encoder: what gradients reach, and not its average."""
    method, recipe = made(name)
    with torch.no_grad():  # as after training, where an average lags behind
        for average in method.modules():
            for p in average.parameters() if isinstance(average, MovingAverage) else ():
                p.add_(1.0)
    method(views_of(recipe), Targets.unlabelled(BATCH, label=1)).loss.backward()
    learned = [p for p in method.parameters() if p.grad is not None]
    export(model_of(FinishedRun(Path(), recipe, method.eval(), 1, True, ())), tmp_path / "m.safetensors", "timm")
    weights = load_file(tmp_path / "m.safetensors")
    plain = build_backbone(
        "resnet10t", in_chans=recipe.data.channels, stem=recipe.model.stem, zero_init_last=False, **ARGUMENTS
    )
    assert weights.keys() == plain.state_dict().keys()  # the heads are left behind
    for key in dict(plain.named_parameters()):
        same = [p for p in learned if p.shape == weights[key].shape and torch.equal(p, weights[key])]
        assert same, key


class Constant(nn.Module):
    """A backbone that has collapsed: the same features, whatever the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Parameter(torch.linspace(0.5, 2.0, width))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features.expand(len(images), -1)


@pytest.mark.parametrize("name", METHODS)
def test_collapse_is_said_whatever_the_method(name: str) -> None:
    """By the evaluations of every one, and after an epoch by those that log their spread."""
    method, recipe = made(name)
    images = views_of(recipe)[0]
    evaluation, notices = OnlineEvaluation.__new__(OnlineEvaluation), list[str]()
    evaluation._collapsed, evaluation._notify = False, notices.append
    method.backbone = Constant(method.backbone(images).shape[1])
    with in_mode(method, training=False), torch.no_grad():
        embeddings = method.project(images)
        values = {"feature_spread": feature_spread(method.backbone(images))}
        values |= {} if embeddings is None else {"embedding_spread": feature_spread(embeddings)}
    assert (embeddings is None) == (name == "supervised")
    assert all(value < 1e-3 for value in values.values())
    evaluation._say_collapse(values)
    assert [notice.split(" (spread 0.000")[0] for notice in notices] == [
        f"collapsed: the {what} of different images point the same way"
        for what in ("embeddings", "features")
        if f"{what[:-1]}_spread" in values
    ]
    if "spread" in method.terms:
        for average in method.modules():
            if isinstance(average, MovingAverage):
                average.networks[0] = method.backbone  # it has followed
        terms = method(views_of(recipe), Targets.unlabelled(BATCH, label=1))._asdict()
        alarm = method.alarm({"loss": 1.0, "spread": float(terms["spread"])}, 0.5)
        assert alarm is not None
        assert "have collapsed" in alarm
