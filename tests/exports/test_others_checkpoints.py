"""Checkpoints as other programs save them: which network is in them, whatever its parts are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from barlowctl.assemble.matching import match
from barlowctl.exports.state_dicts import read_state_dict
from barlowctl.measure.subjects import open_subject

State = dict[str, Tensor]
PROJECTOR = {"layers.0.weight": torch.zeros(8, 512)}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


BLOCKS: dict[str, type[nn.Module]] = {"resnet18": BasicBlock, "resnet50": Bottleneck}


def resnet(name: str = "resnet18", layers: Sequence[int] = (2, 2, 2, 2)) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = torchvision.models.ResNet(BLOCKS[name], list(layers))
    network.fc = nn.Identity()
    return network


def numbered(network: nn.Module) -> State:
    """As lightly's examples build a backbone."""
    return nn.Sequential(*list(network.children())[:-1]).state_dict()


def saved(kind: str, network: nn.Module) -> dict[str, Any]:
    state = network.state_dict()
    match kind:
        case "lightly":
            parts = {**under("backbone.", numbered(network)), **under("projection_head.", PROJECTOR)}
            return {"state_dict": parts, "pytorch-lightning_version": "2.6.6", "epoch": 1}
        case "lightly momentum":
            other = under("backbone_momentum.", {key: 2 * value for key, value in numbered(network).items()})
            return {"state_dict": {**under("backbone.", numbered(network)), **other}}
        case "sequential":
            return numbered(network)
        case "solo-learn":
            return {"state_dict": {**under("backbone.", state), "classifier.weight": torch.zeros(10, 512)}, "epoch": 1}
        case "VISSL":
            model = {"trunk": under("_feature_blocks.", state), "heads": under("0.", PROJECTOR)}
            return {"classy_state_dict": {"base_model": {"model": model}}, "phase_idx": 1}
    raise AssertionError(kind)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("kind", ["lightly", "lightly momentum", "sequential", "solo-learn", "VISSL"])
def test_the_network_within_is_read(tmp_path: Path, kind: str, name: str) -> None:
    theirs = resnet(name, (1, 2, 1, 1)).eval()
    torch.save(saved(kind, theirs), tmp_path / "file.ckpt")
    ours = timm.create_model(name, num_classes=0, layers=(1, 2, 1, 1)).eval()

    matched = match(ours, read_state_dict(tmp_path / "file.ckpt"))
    assert matched.complete
    ours.load_state_dict(dict(matched.taken))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_numbers_of_other_networks_stay(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3)))
    torch.save(network.state_dict(), tmp_path / "file.pth")

    assert read_state_dict(tmp_path / "file.pth").keys() == network.state_dict().keys()


@pytest.mark.parametrize(("kind", "suffix"), [("lightly", ".ckpt"), ("VISSL", ".torch"), ("solo-learn", ".bin")])
def test_files_with_others_endings_are_measured(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"file{suffix}"
    theirs = resnet()
    torch.save(saved(kind, theirs), file)

    backbone = open_subject(str(file)).backbone
    torch.testing.assert_close(
        backbone.state_dict()["layer4.1.conv2.weight"], theirs.state_dict()["layer4.1.conv2.weight"]
    )
