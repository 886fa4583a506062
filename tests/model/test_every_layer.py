"""The features of every layer in one pass: against hooks, module by module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from barlowctl.errors import UserError
from barlowctl.model import build_backbone, build_projector
from barlowctl.model.every_layer import EveryLayer

# Model, its arguments, side of an image, modules whose outputs are the layers, and the place of the patches' tokens.
NETWORKS: list[tuple[str, dict[str, Any], int, list[str]]] = [
    ("resnet10t", {}, 48, ["act1", "layer1", "layer2", "layer3"]),  # the mean of layer4 is what the backbone gives
    ("vit_tiny_patch16_224", {"img_size": 32}, 32, [f"blocks.{block}" for block in range(12)]),
    ("convnext_atto", {}, 48, ["stages.0", "stages.1", "stages.2", "stages.3"]),  # a norm is behind the last
]


@pytest.mark.parametrize(("name", "arguments", "side", "modules"), NETWORKS, ids=[network[0] for network in NETWORKS])
def test_every_layer_gives_what_its_module_gives(
    name: str, arguments: dict[str, Any], side: int, modules: list[str]
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, in_chans=3, **arguments)
    width = int(backbone.num_features)
    projector = build_projector(width, (24, 16, 8))
    for norm in (module for module in projector if isinstance(module, nn.BatchNorm1d)):
        nn.init.uniform_(norm.weight)
        nn.init.normal_(norm.running_mean)
    network = EveryLayer(backbone, projector, size=side, in_chans=3).eval()
    names = [*modules, "features", "projector 1", "projector 2", "projector 3"]
    assert [layer.name for layer in network.layers] == names

    outputs: dict[str, torch.Tensor] = {}
    for module in modules:
        backbone.get_submodule(module).register_forward_hook(
            lambda _, inputs, output, module=module: outputs.setdefault(module, output.clone())
        )
    images = torch.randn(5, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = backbone(images)
        expected = {
            module: output[:, 1:].mean(dim=1) if output.ndim == 3 else output.mean(dim=(2, 3))
            for module, output in outputs.items()
        }
        embedded = features
        for module in projector.eval():
            embedded = module(embedded)
        hidden = [projector[:3](features), projector[:6](features)]
        made = network(images)
    expected |= {"features": features, "projector 1": hidden[0], "projector 2": hidden[1], "projector 3": embedded}
    for layer, row in zip(network.layers, network.split(made), strict=True):
        assert row.shape == (5, layer.width)
        torch.testing.assert_close(row, expected[layer.name], rtol=1e-5, atol=1e-5)


def test_a_network_that_hides_its_layers_is_refused() -> None:
    with pytest.raises(UserError, match="Sequential does not show what its layers give"):
        EveryLayer(nn.Sequential(nn.Flatten()), None, size=8, in_chans=3)
